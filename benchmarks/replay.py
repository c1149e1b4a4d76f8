"""Owns timing of launches: replays of a CUDA graph on a GPU, the wall clock on a CPU."""

import statistics
import time
from collections.abc import Callable

import torch

L2_BYTES = 60 * 2**20
_LAUNCHES = 24
_REPEATS = 7


def copies_to_rotate(num_bytes: int, most: int = 64) -> int:
    """How many copies of a tensor make each launch find its own gone from the L2 cache."""
    return max(2, min(most, 2 * L2_BYTES // num_bytes + 1))


def replay_us(launch: Callable[[int], object], copies: int, device: torch.device) -> float:
    """Median microseconds of one launch among many in a row.

    Args:
        launch: called with the number of the copy to use.
        copies: copies to rotate over.
        device: where it runs; no launch may wait for it.
    """
    if device.type != "cuda":
        launch(0)
        times = []
        for number in range(3):
            start = time.perf_counter()
            launch(number % copies)
            times.append(1e6 * (time.perf_counter() - start))
        return statistics.median(times)
    launches = max(copies, _LAUNCHES)

    def launch_all() -> None:
        for number in range(launches):
            launch(number % copies)

    return captured_us(launch_all) / launches


def captured_us(launch_all: Callable[[], object]) -> float:
    """Median microseconds of what a call launches on the GPU, replayed as a CUDA graph."""
    # Compiles, and makes what all layers of a step share: that is not part of the time.
    launch_all()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch_all()
    return events_us(graph.replay)


def events_us(call: Callable[[], object]) -> float:
    """Median microseconds of a call on the GPU's clock."""
    times = []
    for _ in range(_REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end))
    return statistics.median(times)
