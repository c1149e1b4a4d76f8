"""Owns work that is done in a process of its own because nothing else can interrupt it: orders and answers are lines of
JSON, and an order that takes too long ends the process."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any


class LineProcess:
    """Started on first use, and again after each order it had to be stopped for. One order at a time."""

    def __init__(self, module: str, patience_seconds: float, greeting: bytes = b"") -> None:
        """
        Args:
            module: what the process runs; its `main` ends in `answer_orders`.
            patience_seconds: most real time for an answer.
            greeting: what the process is sent before its first order, as lines.
        """
        self._module = module
        self._patience_seconds = patience_seconds
        self._greeting = greeting
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Stop the process if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __del__(self) -> None:
        self.close()

    def _exchange(self, line: bytes) -> bytes | None:
        """The answer to an order, as lines; None if the process did not survive it."""
        if self._process is None:
            command = [sys.executable, "-P", "-m", self._module]
            self._process = subprocess.Popen(  # noqa: S603 - fixed words only
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            line = self._greeting + line
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self._patience_seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            self.close()
            return None
        return answer


def answer_orders(answer: Callable[[Mapping[str, Any]], object]) -> None:
    """Within the process: answer orders until standard input ends. The `cpu_seconds` of an order are the processor time
    it may take."""
    # Its default action ends the process, in the midst of whatever it computes.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for line in sys.stdin.buffer:
        order = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, order["cpu_seconds"])
        result = answer(order)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(result).encode() + b"\n")
        sys.stdout.buffer.flush()
