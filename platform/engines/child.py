"""Owns one child of the `serve` process: its start, its reports, its end, and when it may start again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from loraplex.platform.engines.process import ApiLaunch, EngineLaunch, Report, ReportKind

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 30.0
# A child that was ready for this long has earned a quick restart again.
HEALTHY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a child.

    Attributes:
        title: what users call it, such as "engine of demo-base".
        module: run as `python -m`.
        launch: builds the launch order, given the descriptor to report to.
        pass_fds: descriptors it inherits.
        environment: variables set in addition to the parent's.
    """

    title: str
    module: str
    launch: Callable[[int], EngineLaunch | ApiLaunch]
    pass_fds: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Child:
    """A process that is started again, after growing pauses, whenever it ends.

    Attributes:
        ready: it does its work now.
        was_ready: it did once; until then its end is the end of `serve`.
        failure: what it reported before its last end, if it did.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ready = False
        self.was_ready = False
        self.failure: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = -1
        self._unparsed = b""
        self._changed_at = 0.0
        self._quick_ends = 0
        self._start_at = 0.0

    @property
    def title(self) -> str:
        return self.spec.title

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start_if_due(self) -> None:
        """Start it unless it runs or has to wait longer."""
        if self._process is not None or time.monotonic() < self._start_at:
            return
        self._reports, child_end = os.pipe()
        os.set_blocking(self._reports, False)
        try:
            # A session of its own: Ctrl-C reaches `serve` alone, which then ends everything in order. Standard input
            # stays open as long as this process lives; the child ends when it closes.
            self._process = subprocess.Popen(  # noqa: S603 - our own modules only
                [sys.executable, "-P", "-m", self.spec.module],
                stdin=subprocess.PIPE,
                pass_fds=(child_end, *self.spec.pass_fds),
                env=os.environ | self.spec.environment,
                start_new_session=True,
            )
        finally:
            os.close(child_end)
        self._unparsed, self.failure, self._changed_at = b"", None, time.monotonic()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(self.spec.launch(child_end)) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended at once; `poll` finds out

    def poll(self) -> int | None:
        """Read reports; the exit status if it ended since the last call."""
        if self._process is None:
            return None
        status = self._process.poll()
        self._read_reports()
        if status is None:
            return None
        if self._process.stdin is not None:
            self._process.stdin.close()
        os.close(self._reports)
        healthy = self.ready and time.monotonic() - self._changed_at > HEALTHY_SECONDS
        self._quick_ends = 0 if healthy else self._quick_ends + 1
        self._process, self.ready = None, False
        return status

    def schedule_restart(self) -> float:
        """Let `start_if_due` start it after a pause; returns its length in seconds."""
        delay: float = min(
            LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** max(0, self._quick_ends - 1)
        )
        self._start_at = time.monotonic() + delay
        return delay

    def send(self, signum: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self._process is not None:
            self._process.send_signal(signum)

    def _read_reports(self) -> None:
        while True:
            try:
                data = os.read(self._reports, 4096)
            except BlockingIOError:
                return
            if not data:
                return
            *lines, self._unparsed = (self._unparsed + data).split(b"\n")
            for line in lines:
                report = msgspec.json.decode(line, type=Report)
                if report.kind is ReportKind.READY:
                    self.ready = self.was_ready = True
                    self._changed_at = time.monotonic()
                else:
                    self.failure = report.message
