"""Owns SiLU·mul, the activation between the two halves of a fused gate_up projection."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import tl, triton

# Elements per program. Untuned.
_BLOCK = 1024


def silu_mul(x: torch.Tensor) -> torch.Tensor:
    """silu(first half) × second half; silu is rounded to x's dtype before the product, as separate layers do.

    Args:
        x: [tokens, 2 × size], last dimension contiguous.

    Returns:
        [tokens, size], contiguous, x's dtype.
    """
    return silu_mul_triton(x) if dispatch.use_triton(x) else silu_mul_reference(x)


def silu_mul_reference(x: torch.Tensor) -> torch.Tensor:
    """Plain-torch twin of `silu_mul`."""
    gate, up = x.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


def silu_mul_triton(x: torch.Tensor) -> torch.Tensor:
    """Triton launcher of `silu_mul`."""
    tokens, size = x.shape[0], x.shape[1] // 2
    out = torch.empty((tokens, size), dtype=x.dtype, device=x.device)
    if tokens:
        grid = (tokens, -(-size // _BLOCK))
        _silu_mul_kernel[grid](x, out, size, x.stride(0), BLOCK=_BLOCK)
    return out


@triton.jit
def _silu_mul_kernel(x_ptr, out_ptr, size, x_stride, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate_at = x_ptr + token * x_stride + column
    gate = tl.load(gate_at, mask=inside, other=0.0)
    up = tl.load(gate_at + size, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    # Below -80 silu is zero for all purposes; e^-x would overflow soon after.
    silu = (wide / (1.0 + tl.exp(tl.minimum(-wide, 80.0)))).to(gate.dtype)
    result = silu.to(tl.float32) * up.to(tl.float32)
    tl.store(out_ptr + token * size + column, result.to(gate.dtype), mask=inside)
