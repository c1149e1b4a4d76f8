"""Owns the server process of the demo: `loraplex serve` on the shipped model, started, watched and ended."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from loraplex.platform.demo.model_dir import demo_model_dir

BASE_NAME = "demo-base"
PREFERRED_PORT = 8000
STOP_SECONDS = 20
LAST_LINES = 15


class DemoError(Exception):
    """The show cannot go on; the message says why and what to do."""


class DemoServer:
    """A `loraplex serve` child. Its output goes to `server.log` in the data directory.

    Attributes:
        url: where it listens, without a trailing slash.
        operator_key: an operator key of it.
        password: of the person who signs in to its dashboard.
    """

    def __init__(self, data_dir: Path, port: int, device: str) -> None:
        """Start it; returns at once, `is_ready` tells when it answers."""
        self.url = f"http://127.0.0.1:{port}"
        self.operator_key = _kept(data_dir / "operator.key", "demo-operator-")
        self.password = _kept(data_dir / "password", "")
        self._log = data_dir / "server.log"
        # Adapters are trained in fp32, so fp32 is what answers as they learned to.
        options = {
            "--model": str(demo_model_dir()),
            "--served-model-name": BASE_NAME,
            "--host": "127.0.0.1",
            "--port": str(port),
            "--data-dir": str(data_dir),
            "--device": device,
            "--dtype": "float32",
        }
        command = [sys.executable, "-m", "loraplex", "serve"]
        command += [word for option in options.items() for word in option]
        # In a session of its own, so that Ctrl-C reaches the demo alone, which then ends the server in order.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own command, no user text
                command,
                env=child_environment(self.operator_key),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether the engine is up and requests are served.

        Raises:
            DemoError: the process has ended.
        """
        self.check_alive()
        try:
            answer = httpx.get(f"{self.url}/ready", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    def check_alive(self) -> None:
        """Raises DemoError with the end of the log if the process has ended."""
        if (code := self._process.poll()) is not None:
            raise self.failure(f"The server ended with exit code {code}")

    def failure(self, what: str) -> DemoError:
        """An error with the end of the server's log in it, since a temporary directory takes the log along."""
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return DemoError("\n".join([f"{what}; it said:", *(line[:500] for line in lines)]))

    def stop(self) -> None:
        """End it in order; kill it if that takes longer than `STOP_SECONDS`."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def choose_port(wanted: int | None) -> int:
    """The wanted port, else 8000, else any free one.

    Raises:
        DemoError: the wanted port is taken.
    """
    for port in (wanted,) if wanted is not None else (PREFERRED_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError(f"Port {wanted} is in use; choose another one with --port.")


def child_environment(operator_key: str) -> dict[str, str]:
    """Ours without settings of a real service (its database above all), and with the operator key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORAPLEX_")}
    return kept | {"LORAPLEX_BOOTSTRAP_KEY": operator_key}


def _kept(file: Path, prefix: str) -> str:
    """A secret. A kept data directory has its own already, in a file that only its owner can read."""
    if file.exists():
        return file.read_text().strip()
    secret = prefix + secrets.token_urlsafe(24)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secret)
    return secret
