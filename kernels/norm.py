"""Owns RMSNorm, alone and fused with the residual addition before it."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import power_of_two, start_early, tl, triton

# Narrow rows (the heads of a q/k norm) share a program until it holds this many elements. Untuned.
_ELEMENTS_PER_PROGRAM = 2048


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalise the last dimension: x / rms(x) in float32, rounded to x's dtype, then times weight.

    Args:
        x: [..., size], last dimension contiguous.
        weight: [size].
        eps: added to the mean square.

    Returns:
        A new contiguous tensor of x's shape and dtype.
    """
    return (
        rms_norm_triton(x, weight, eps)
        if dispatch.use_triton(x)
        else rms_norm_reference(x, weight, eps)
    )


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add x to the residual stream, then normalise the sum like `rms_norm`.

    Args:
        x: [tokens, size], last dimension contiguous.
        residual: [tokens, size], likewise; overwritten with the sum.
        weight: [size].
        eps: added to the mean square.

    Returns:
        (normed, residual), each [tokens, size].
    """
    if dispatch.use_triton(x):
        return add_rms_norm_triton(x, residual, weight, eps)
    return add_rms_norm_reference(x, residual, weight, eps)


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Plain-torch twin of `rms_norm`."""
    if x.dtype is torch.float32:
        return torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, eps)
    normed = torch.nn.functional.rms_norm(x.float(), (x.shape[-1],), None, eps)
    return normed.to(x.dtype).mul_(weight)


def add_rms_norm_reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain-torch twin of `add_rms_norm`."""
    residual.add_(x)
    return rms_norm_reference(residual, weight, eps), residual


def rms_norm_triton(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Triton launcher of `rms_norm`."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # A q/k norm sees heads inside a fused qkv row, so rows are addressed with two strides.
    rows = x if x.dim() in (2, 3) else x.reshape(-1, x.shape[-1])
    inner = rows.shape[1] if rows.dim() == 3 else 1
    _launch(rows, inner, None, weight, out, eps)
    return out


def add_rms_norm_triton(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Triton launcher of `add_rms_norm`."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, 1, residual, weight, out, eps)
    return out, residual


def _launch(
    x: torch.Tensor,
    inner: int,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    out: torch.Tensor,
    eps: float,
) -> None:
    size = x.shape[-1]
    rows = x.numel() // size
    if rows == 0:
        return
    block = power_of_two(size)
    early = dispatch.early_launch(x)
    block_rows = max(1, min(_ELEMENTS_PER_PROGRAM // block, power_of_two(rows)))
    _rms_norm_kernel[(-(-rows // block_rows),)](
        x,
        x if residual is None else residual,
        weight,
        out,
        rows,
        inner,
        size,
        x.stride(0),
        x.stride(1) if inner > 1 else 0,
        0 if residual is None else residual.stride(0),
        eps,
        HAS_RESIDUAL=residual is not None,
        BLOCK_ROWS=block_rows,
        BLOCK=block,
        EARLY=early,
        num_warps=8 if block >= 4096 else 4,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["rows"])
def _rms_norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    out_ptr,
    rows,
    inner,
    size,
    x_outer_stride,
    x_inner_stride,
    residual_stride,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    row = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < size)[None, :]
    start = (row // inner) * x_outer_stride + (row % inner) * x_inner_stride
    x = tl.load(x_ptr + start[:, None] + column[None, :], mask=inside, other=0.0)
    if HAS_RESIDUAL:
        at = residual_ptr + row[:, None] * residual_stride + column[None, :]
        total = x.to(tl.float32) + tl.load(at, mask=inside, other=0.0).to(tl.float32)
        x = total.to(x.dtype)
        tl.store(at, x, mask=inside)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=1) / size + eps)
    weight = tl.load(weight_ptr + column, mask=column < size, other=0.0)
    result = scaled(x, scale[:, None], weight[None, :])
    tl.store(out_ptr + row[:, None] * size + column[None, :], result, mask=inside)


@triton.jit
def scaled(x, scale, weight):
    """x × scale × weight, rounded to x's dtype after each product."""
    normed = (x.to(tl.float32) * scale).to(x.dtype)
    return (normed.to(tl.float32) * weight.to(tl.float32)).to(x.dtype)
