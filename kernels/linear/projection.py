"""Owns the public projection and which of its implementations runs."""

import torch
from torch.nn import functional

from loraplex.kernels import dispatch
from loraplex.kernels.linear.tile import linear_tile
from loraplex.kernels.linear.tuning import Launch, launch_constants


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x Wᵀ + bias, summed in float32 and rounded once.

    Which kernel runs depends on shapes, layout and dtype alone, and no row of the result on another row of x.

    Args:
        x: [tokens, in_features].
        weight: [out_features, in_features], x's dtype. On a GPU it is read before the kernels launched just before
            have ended, so whoever writes weights synchronises before the first use.
        bias: [out_features] or None.

    Returns:
        [tokens, out_features], contiguous, x's dtype.
    """
    launch = _launch(x, weight) if dispatch.use_triton(x) else None
    if launch is None:
        return linear_reference(x, weight, bias)
    if launch.ring:
        # Imported here because Gluon exists only where Triton can compile for a GPU.
        from loraplex.kernels.linear.ring import linear_ring

        return linear_ring(x, weight, bias, launch)
    return linear_tile(x, weight, bias, launch)


def linear_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Plain-torch twin of `linear`."""
    return functional.linear(x, weight, bias)


def _launch(x: torch.Tensor, weight: torch.Tensor) -> Launch | None:
    """How the kernel is launched, or None where torch is as fast or the kernel cannot run."""
    if x.dtype not in (torch.bfloat16, torch.float16) or x.dim() != 2 or not x.numel():
        return None
    # The kernel and its constants are for Hopper's bulk copies: rows begin at multiples of 16 bytes.
    if torch.cuda.get_device_capability(x.device)[0] != 9:
        return None
    for matrix in (x, weight):
        if matrix.stride(1) != 1 or matrix.stride(0) % 8 or matrix.data_ptr() % 16:
            return None
    return launch_constants(len(x), *weight.shape)
