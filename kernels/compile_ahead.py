"""Owns compiling kernels side by side: what a function launches is compiled by many threads, and not run.

Triton compiles a kernel when it is first launched, one after the other: 0.1 to 3 s each, most of it in code that
threads can run at the same time. The launches themselves say what there is to compile, so no list can grow stale.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from loraplex.kernels.language import triton


def compile_ahead(launch_all: Callable[[], None], device: torch.device) -> None:
    """Compile every kernel that `launch_all` launches; returns when all can be launched.

    None of them runs, so what they would have written stays as it was allocated: `launch_all` must not use that as an
    index. A kernel that cannot be compiled says so when it is really launched.

    Args:
        launch_all: launches kernels on `device`.
        device: an NVIDIA GPU, with its index.
    """
    threads = len(os.sched_getaffinity(0))
    # A thread begins on the first GPU, wherever its creator is.
    pool = ThreadPoolExecutor(threads, "compile", torch.cuda.set_device, (device,))
    with (
        pool,
        triton.AsyncCompileMode(_Compilers(pool), ignore_errors=True),
        _only_compiling(),
    ):
        launch_all()


class _Compilers:
    """What Triton hands its compilations to."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def submit(self, compile_kernel):
        def make_ready():
            kernel = compile_kernel()
            # Loads the kernel onto the GPU; Triton 3.6 runs a C compiler for that.
            kernel.run  # noqa: B018
            return kernel

        return self._pool.submit(make_ready)


@contextmanager
def _only_compiling() -> Iterator[None]:
    """Make every launch of a kernel one that only asks for its compilation."""
    jit_function = triton.JITFunction
    run = jit_function.run

    def only_compile(self, *args, grid, warmup, **kwargs):
        return run(self, *args, grid=grid, warmup=True, **kwargs)

    jit_function.run = only_compile
    try:
        yield
    finally:
        jit_function.run = run
