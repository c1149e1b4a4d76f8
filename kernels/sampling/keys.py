"""Owns the integers that order like logits, on which thresholds are searched."""

import torch

from loraplex.kernels.language import tl, triton


def key_shift(dtype: torch.dtype) -> int:
    """How many low bits of a float32 that came from `dtype` say nothing."""
    return {torch.bfloat16: 16, torch.float16: 13, torch.float32: 0}[dtype]


@triton.jit
def order_key(x, SHIFT: tl.constexpr):
    """int32 that order like float32 `x`, without its `SHIFT` low bits; -0 counts as 0."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> SHIFT


@triton.jit
def key_value(key, SHIFT: tl.constexpr):
    """The float32 of a key."""
    whole = (key << SHIFT) | ((key >> 31) & ((1 << SHIFT) - 1))
    return (whole ^ ((whole >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
