"""Owns load from several processes, so that the clients are never what is measured."""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Outcome, Shot, closed_loop, open_loop

# All processes have been started and hold their shots by then.
_LEAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Outcomes of a run, and the processor time its clients took, seconds."""

    outcomes: list[Outcome]
    cpu_seconds: float


class LoadProcesses:
    """Processes that send shots; use as a context manager, and several times."""

    def __init__(self, address: Address, processes: int) -> None:
        self._address = address
        self._processes = processes
        # Not forked: the parent may hold a device and threads.
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))

    def __enter__(self) -> "LoadProcesses":
        list(self._pool.map(time.sleep, [0.2] * self._processes))
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()

    def closed(self, shots: Sequence[Shot], concurrency: int) -> Loaded:
        """Send shots, `concurrency` at a time over all processes."""
        shares = [shots[i :: self._processes] for i in range(self._processes)]
        clients = [
            concurrency // self._processes + (i < concurrency % self._processes)
            for i in range(self._processes)
        ]
        start = time.perf_counter() + _LEAD_SECONDS
        jobs = [
            self._pool.submit(_run, self._address, share, start, count)
            for share, count in zip(shares, clients, strict=True)
            if share and count
        ]
        return _joined([job.result() for job in jobs])

    def open(self, shots: Sequence[Shot]) -> Loaded:
        """Send each shot at its own time."""
        start = time.perf_counter() + _LEAD_SECONDS
        shares = [shots[i :: self._processes] for i in range(self._processes)]
        jobs = [
            self._pool.submit(_run, self._address, share, start, None) for share in shares if share
        ]
        return _joined([job.result() for job in jobs])


def _run(
    address: Address, shots: Sequence[Shot], start: float, concurrency: int | None
) -> tuple[list[Outcome], float]:
    async def work() -> list[Outcome]:
        # The clock of `perf_counter` is the same in all processes.
        await asyncio.sleep(start - time.perf_counter())
        if concurrency is None:
            return await open_loop(address, shots, start)
        return await closed_loop(address, shots, concurrency)

    used = time.process_time()
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        outcomes = runner.run(work())
    return outcomes, time.process_time() - used


def _fast_loop() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


def _joined(results: list[tuple[list[Outcome], float]]) -> Loaded:
    return Loaded(
        [outcome for outcomes, _ in results for outcome in outcomes],
        sum(seconds for _, seconds in results),
    )
