"""Owns the one import of Triton, so that every module of this package can also be imported where Triton is absent, and
what kernels and launchers share about the language."""

import os
from types import SimpleNamespace

import torch

__all__ = ["dot_dtype", "power_of_two", "start_early", "tl", "triton"]

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU-only machine: kernels are defined but never launched

    def _leave_as_is(fn=None, **_options):
        return fn if fn is not None else lambda inner: inner

    triton = SimpleNamespace(jit=_leave_as_is)
    tl = SimpleNamespace(constexpr=object)


@triton.jit
def start_early(EARLY: tl.constexpr):
    """How a kernel begins for which `dispatch.early_launch` holds: the next one may be set up from here on, and past
    this line the one before has ended."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`: blocks in Triton have such extents."""
    return 1 << max(size - 1, 0).bit_length()


def dot_dtype(dtype: torch.dtype):
    """The Triton type in which `tl.dot` takes operands of `dtype`.

    Triton's interpreter multiplies bfloat16 operands as the integers that hold their bits, so there, and only there,
    they are widened first; products and sums are float32 either way.
    """
    if dtype is torch.bfloat16 and os.environ.get("TRITON_INTERPRET") == "1":
        return tl.float32
    return {
        torch.float32: tl.float32,
        torch.float16: tl.float16,
        torch.bfloat16: tl.bfloat16,
    }[dtype]
