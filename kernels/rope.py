"""Owns rotary position embedding, in the half-split layout of Hugging Face models."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import power_of_two, tl, triton


def apply_rope(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """Rotate the first R elements of every head, in place: element i pairs with element i + R/2.

    Args:
        q: [tokens, query heads, head dim], last dimension contiguous; may be a view of a fused qkv.
        k: [tokens, KV heads, head dim], likewise.
        cos, sin: [positions, R / 2] float32.
        positions: [tokens] int64.
    """
    if dispatch.use_triton(q):
        apply_rope_triton(q, k, cos, sin, positions)
    else:
        apply_rope_reference(q, k, cos, sin, positions)


def apply_rope_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """Plain-torch twin of `apply_rope`."""
    half = cos.shape[1]
    token_cos = cos.index_select(0, positions)[:, None]
    token_sin = sin.index_select(0, positions)[:, None]
    for heads in _together(q, k):
        first, second = heads[..., :half], heads[..., half : 2 * half]
        if heads.dtype is torch.float32:
            crossed = first * token_sin
            first.mul_(token_cos).addcmul_(second, token_sin, value=-1)
            second.mul_(token_cos).add_(crossed)
        else:
            a, b = first.float(), second.float()
            first.copy_(a * token_cos - b * token_sin)
            second.copy_(b * token_cos + a * token_sin)


def _together(q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """q and k as one tensor where they lie side by side in a fused qkv: half the torch calls per layer."""
    adjacent = q.stride() == k.stride() and (
        q.data_ptr() + q.shape[1] * q.stride(1) * q.element_size() == k.data_ptr()
    )
    if not adjacent:
        return q, k
    return (q.as_strided((q.shape[0], q.shape[1] + k.shape[1], q.shape[2]), q.stride()),)


def apply_rope_triton(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """Triton launcher of `apply_rope`."""
    tokens, half = positions.shape[0], cos.shape[1]
    if tokens == 0:
        return
    _rope_kernel[(tokens,)](
        q,
        k,
        cos,
        sin,
        positions,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        q.shape[1],
        k.shape[1],
        half,
        Q_HEADS=power_of_two(q.shape[1]),
        K_HEADS=power_of_two(k.shape[1]),
        HALF=power_of_two(half),
    )


@triton.jit
def _rope_kernel(
    q_ptr,
    k_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    q_heads,
    k_heads,
    half,
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF)
    angle = tl.load(positions_ptr + token) * half + column
    cos = tl.load(cos_ptr + angle, mask=column < half, other=0.0)
    sin = tl.load(sin_ptr + angle, mask=column < half, other=0.0)
    _rotate(q_ptr + token * q_token_stride, q_head_stride, q_heads, half, cos, sin, Q_HEADS, HALF)
    _rotate(k_ptr + token * k_token_stride, k_head_stride, k_heads, half, cos, sin, K_HEADS, HALF)


@triton.jit
def _rotate(ptr, head_stride, heads, half, cos, sin, HEADS: tl.constexpr, HALF: tl.constexpr):
    head = tl.arange(0, HEADS)
    column = tl.arange(0, HALF)
    inside = (head < heads)[:, None] & (column < half)[None, :]
    first = ptr + head[:, None] * head_stride + column[None, :]
    second = first + half
    a = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(second, mask=inside, other=0.0).to(tl.float32)
    tl.store(first, (a * cos[None, :] - b * sin[None, :]).to(ptr.dtype.element_ty), mask=inside)
    tl.store(second, (b * cos[None, :] + a * sin[None, :]).to(ptr.dtype.element_ty), mask=inside)
