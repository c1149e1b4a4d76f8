"""Owns a real `loraplex serve` for tests: its processes, tenants with keys, and uploads through the public API."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types

from support.patience import PATIENCE_SECONDS

OPERATOR_KEY = "lpx-e2e-operator-key"
# A start takes six seconds on a free machine, everything else that is waited for less.
WAIT_SECONDS = 120.0


class Serve:
    """`loraplex serve` on a free port; its output is in `log`."""

    def __init__(self, model: Path, data_dir: Path, *options: str, name: str = "org/tiny") -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir / "serve.log"
        self.base = name
        command = [
            sys.executable,
            "-m",
            "loraplex",
            "serve",
            "--model",
            str(model),
            "--served-model-name",
            name,
        ]
        command += ["--port", "0", "--data-dir", str(data_dir), "--device", "cpu", *options]
        environment = os.environ | {"LORAPLEX_BOOTSTRAP_KEY": OPERATOR_KEY, "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        self.url = ""
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> "Serve":
        try:
            self.wait(lambda: "Ready after" in self.output())
            line = next(
                line for line in self.output().splitlines() if line.startswith("Ready after")
            )
            self.url = line.split()[-1]
            self.operator = self.client(OPERATOR_KEY)
            # Its numbers come after it has said that it is ready.
            self.wait(lambda: bool(self.engine()["ready"]) and self.is_idle())
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """End it in order, and all clients; the exit status."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def client(self, key: str) -> httpx.Client:
        """A plain HTTP client with a key, closed with the server."""
        headers = {"authorization": f"Bearer {key}"}
        client = httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
        )
        self._clients.append(client)
        return client

    def output(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Until `condition` holds; fails with the log when the server ends or it takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the server ended:\n{self.output()[-4000:]}"
            assert time.monotonic() < deadline, f"waited {seconds} s:\n{self.output()[-4000:]}"
            time.sleep(0.05)

    def engine(self) -> dict[str, object]:
        """The engine's live state."""
        answer = self.operator.get("/api/v1/engine")
        answer.raise_for_status()
        state: dict[str, object] = answer.json()[self.base]
        return state

    def counter(self, name: str) -> float:
        """One of the engine's numbers; they are renewed once a second."""
        counters = self.engine()["counters"]
        assert isinstance(counters, dict)
        return float(counters.get(name, -1))

    def is_idle(self) -> bool:
        """Nothing runs or waits at the engine."""
        return self.counter("running") == 0 and self.counter("waiting") == 0

    def children(self, module: str) -> list[psutil.Process]:
        """The running children that execute `module`."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has ended since
                if module in child.cmdline():
                    found.append(child)
        return found

    def kill(self, module: str) -> None:
        """Kill all children that execute `module`, as soon as there are any."""
        self.wait(lambda: bool(self.children(module)))
        for child in self.children(module):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def tenant(self, name: str) -> "Tenant":
        """A new tenant with a key."""
        self.operator.post("/api/v1/tenants", json={"name": name}).raise_for_status()
        answer = self.operator.post(f"/api/v1/tenants/{name}/keys", json={"name": "test"})
        answer.raise_for_status()
        return Tenant(self, name, answer.json()["key"])


class Tenant:
    """A tenant of a `Serve`, with a plain HTTP client."""

    def __init__(self, serve: Serve, name: str, key: str) -> None:
        self.name = name
        self.key = key
        self.url = serve.url
        self.base = serve.base
        self.http = serve.client(key)

    def push(self, name: str, directory: Path, **fields: str) -> httpx.Response:
        """Upload a PEFT directory as a new version of `name`."""
        files = {
            "config": ("adapter_config.json", (directory / "adapter_config.json").read_bytes()),
            "weights": (
                "adapter_model.safetensors",
                (directory / "adapter_model.safetensors").read_bytes(),
            ),
        }
        return self.http.post("/api/v1/adapters", data={"name": name, **fields}, files=files)

    def complete(self, **body: object) -> httpx.Response:
        """POST /v1/completions on the base model unless `model` is given."""
        return self.http.post("/v1/completions", json={"model": self.base, **body})

    def chat(self, **body: object) -> httpx.Response:
        """POST /v1/chat/completions, likewise."""
        return self.http.post("/v1/chat/completions", json={"model": self.base, **body})
