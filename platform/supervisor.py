"""Owns the `serve` process: prepares the database, starts the engines and API workers, keeps them running, and ends
them in order. Imports neither torch nor the web framework, and does no work of its own between these."""

import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.platform.engines.child import Child, ChildSpec
from loraplex.platform.engines.process import ApiLaunch, EngineLaunch, ModelEndpoint
from loraplex.platform.listening import open_listeners
from loraplex.platform.settings import Settings

POLL_SECONDS = 0.1
# How often a long start says what it waits for.
PATIENCE_SECONDS = 5.0
# Longer than an API worker takes at most: 30 s for requests in flight, 2 s to cut them off, 5 s for its chores, 4 s for
# the last ledger rows.
DRAIN_SECONDS = 45.0
ENGINE_STOP_SECONDS = 10.0


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


class Supervisor:
    """One running service. `say` gets sentences for the terminal."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._engines: list[Child] = []
        self._workers: list[Child] = []
        self._signals = 0

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one ends everything at once.

        Raises:
            StartError: something is wrong that starting again would not help.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        _check(self._settings)
        with _alone_in(self._settings.data_dir), ExitStack() as sockets:
            listeners = [sockets.enter_context(listener) for listener in _listen(self._settings)]
            self._prepare_database()
            # Sockets of this user only; short, because the system limits their paths to about 100 characters.
            runtime = Path(tempfile.mkdtemp(prefix="loraplex-"))
            try:
                self._compose(runtime, listeners)
                self._supervise(_url(listeners[0]))
            finally:
                self._stop()
                shutil.rmtree(runtime, ignore_errors=True)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _prepare_database(self) -> None:
        # A process of its own keeps the database libraries out of this one.
        command = [sys.executable, "-P", "-m", "loraplex.platform.prepare"]
        order = self._settings.to_json().encode()
        done = subprocess.run(command, input=order, stderr=subprocess.PIPE, check=False)  # noqa: S603 - fixed words only
        *told, reason = done.stderr.decode(errors="replace").splitlines() or [""]
        if done.returncode == 0:
            told.append(reason)
        for line in filter(None, told):
            sys.stderr.write(f"{line}\n")
        if done.returncode != 0:
            raise StartError(
                reason or f"Preparing the database ended with {_how(done.returncode)}."
            )

    def _compose(self, runtime: Path, listeners: list[socket.socket]) -> None:
        settings = self._settings.to_json()
        models = [
            ModelEndpoint(model.name, str(model.path), f"ipc://{runtime}/engine{i}")
            for i, model in enumerate(self._settings.models)
        ]
        for model in models:

            def engine_launch(report_fd: int, model: ModelEndpoint = model) -> EngineLaunch:
                return EngineLaunch(settings, model, report_fd)

            spec = ChildSpec(
                f"engine of {model.name}", "loraplex.platform.engines.worker", engine_launch
            )
            self._engines.append(Child(spec))

        environment: dict[str, str] = {}
        if self._settings.api_workers > 1:
            # Each worker counts for itself; a scrape adds up their files.
            metrics = runtime / "metrics"
            metrics.mkdir()
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        for number, listener in enumerate(listeners, 1):
            socket_fd = listener.fileno()

            def api_launch(report_fd: int, socket_fd: int = socket_fd) -> ApiLaunch:
                return ApiLaunch(settings, models, socket_fd, report_fd)

            spec = ChildSpec(
                f"API worker {number}",
                "loraplex.platform.api_worker",
                api_launch,
                (socket_fd,),
                environment,
            )
            self._workers.append(Child(spec))

    def _supervise(self, url: str) -> None:
        children = self._engines + self._workers
        announced = False
        started = said = time.monotonic()
        while not self._signals:
            for child in children:
                child.start_if_due()
                status = child.poll()
                if status is not None:
                    self._on_end(child, status)
            now = time.monotonic()
            waiting = [child.title for child in children if not child.was_ready]
            if not announced and not waiting:
                announced = True
                self._say(f"Ready after {now - started:.0f} s: {url}")
            elif waiting and now - said > PATIENCE_SECONDS:
                said = now
                self._say(f"Waiting for {', '.join(waiting)} ({now - started:.0f} s) ...")
            time.sleep(POLL_SECONDS)

    def _on_end(self, child: Child, status: int) -> None:
        how = _how(status)
        if not child.was_ready:
            raise StartError(
                child.failure or f"The {child.title} ended with {how}; its last messages say why."
            )
        delay = child.schedule_restart()
        self._say(f"The {child.title} ended with {how}; starting it again in {delay:g} s.")

    def _stop(self) -> None:
        """First the workers, which let requests in flight end, then the engines."""
        asked = self._signals
        if asked:
            self._say("Stopping: waiting for requests in flight. Interrupt again to stop at once.")
        for children, seconds in (
            (self._workers, DRAIN_SECONDS if asked else 0.0),
            (self._engines, ENGINE_STOP_SECONDS if asked else 0.0),
        ):
            for child in children:
                child.send(signal.SIGTERM)
            self._wait(children, time.monotonic() + seconds, asked)
            for child in children:
                child.send(signal.SIGKILL)
            self._wait(children, time.monotonic() + ENGINE_STOP_SECONDS, None)

    def _wait(self, children: Iterable[Child], deadline: float, asked: int | None) -> None:
        """Until all have ended, the deadline, or a further signal (`asked`: how many there were)."""
        while time.monotonic() < deadline and (asked is None or self._signals == asked):
            for child in children:
                child.poll()
            if not any(child.running for child in children):
                return
            time.sleep(POLL_SECONDS)


def _check(settings: Settings) -> None:
    """Refuse what can be seen without loading a model."""
    if not settings.models:
        raise StartError("Name a base model: loraplex serve --model DIRECTORY.")
    for model in settings.models:
        try:
            ModelConfig.from_directory(model.path)
            EngineConfig(
                model=model.path,
                max_model_len=settings.max_model_len,
                max_num_seqs=settings.max_num_seqs,
                max_num_batched_tokens=settings.max_num_batched_tokens,
                gpu_memory_utilization=settings.gpu_memory_utilization,
            )
        except (UnsupportedModelError, InvalidConfigError) as error:
            raise StartError(str(error)) from error


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: engines of another `serve` on it would keep adapters deleted through this one."""
    try:
        (data_dir / "cache").mkdir(parents=True, exist_ok=True)
        # Released by the system however this process ends; children do not inherit it.
        lock = (data_dir / "serve.lock").open("w")
    except OSError as error:
        raise StartError(
            f"The data directory {data_dir} cannot be used: {error.strerror}."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"Another loraplex serve uses {data_dir}; stop it, or choose another --data-dir."
            ) from error
        yield


def _listen(settings: Settings) -> list[socket.socket]:
    host, port = settings.host, settings.port
    try:
        return open_listeners(host, port, settings.api_workers)
    except (OSError, OverflowError) as error:
        raise StartError(f"Cannot listen on {host} port {port}: {error}.") from error


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only named, to be replaced
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
