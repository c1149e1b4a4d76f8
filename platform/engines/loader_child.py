"""Owns the loader process of an engine process: started beside it, again when it dies, ended with it."""

import logging
import queue
import socket
import subprocess
import sys
import threading
import time

import msgspec

from loraplex.platform.engines.process import LoaderLaunch

# A loader that died after this long was healthy: the next one starts at once.
HEALTHY_SECONDS = 30.0
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 15.0
# What an orderly end may take: it waits for the load under way and writes the warm set to the database.
STOP_SECONDS = 5.0


class LoaderChild:
    """Starts loader processes one after the other, from a thread of its own: starting one takes milliseconds that no
    step must wait for."""

    def __init__(self) -> None:
        self._orders: queue.Queue[tuple[LoaderLaunch, socket.socket] | None] = queue.Queue()
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="loader-child", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return None if process is None else process.pid

    def start(self, launch: LoaderLaunch, end: socket.socket) -> None:
        """Start the next one as soon as the one before has ended. `end` is its end of the socket pair; it is closed
        here once the process has it, so that the other end notices when the process ends."""
        self._orders.put((launch, end))

    def kill(self) -> None:
        """End the process that runs now at once; another can be started."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Wait until the process has ended, which it does because the socket was closed."""
        self._closing.set()
        self._orders.put(None)
        self._thread.join(STOP_SECONDS)
        process = self._process
        if process is not None:
            process.kill()
            self._thread.join()

    def _run(self) -> None:
        delay = 0.0
        while (order := self._orders.get()) is not None:
            launch, end = order
            with end:
                if self._closing.wait(delay):
                    continue
                started = time.monotonic()
                self._process = _spawn(launch, end.fileno())
            status = self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None
            if status:
                logging.getLogger(__name__).warning("the adapter loader ended with %s", status)
            healthy = time.monotonic() - started > HEALTHY_SECONDS
            delay = (
                0.0 if healthy else min(LONGEST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, 2 * delay))
            )


def _spawn(launch: LoaderLaunch, fd: int) -> "subprocess.Popen[bytes]":
    launch = msgspec.structs.replace(launch, channel_fd=fd)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "loraplex.platform.engines.loader"],
        stdin=subprocess.PIPE,
        pass_fds=(fd, launch.memory_fd),
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        # Stays open as long as this process lives; the child ends when it closes.
        process.stdin.write(msgspec.json.encode(launch) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it ended at once
    return process
