"""Owns rotary position embedding in plain torch, in the half-split layout of Hugging Face models; on a GPU
`kernels.qkv` does it on the way."""

import torch


def apply_rope_reference(
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
