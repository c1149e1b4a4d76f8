"""Owns writing a step's keys and values into the paged cache."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import power_of_two, tl, triton


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """Scatter one row per token into the cache, in place.

    Args:
        k, v: [tokens, KV heads, head dim], last dimension contiguous.
        k_cache, v_cache: [blocks, block size, KV heads, head dim], last dimension contiguous, equal strides.
        slots: [tokens] int64, block × block size + offset; -1 leaves the cache alone.
    """
    if dispatch.use_triton(k):
        kv_write_triton(k, v, k_cache, v_cache, slots)
    else:
        kv_write_reference(k, v, k_cache, v_cache, slots)


def kv_write_reference(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """Plain-torch twin of `kv_write`."""
    if slots.numel() and int(slots.min()) < 0:
        kept = slots >= 0
        k, v, slots = k[kept], v[kept], slots[kept]
    block_size = k_cache.shape[1]
    at = (slots // block_size, slots % block_size)
    k_cache.index_put_(at, k)
    v_cache.index_put_(at, v)


def kv_write_triton(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """Triton launcher of `kv_write`."""
    tokens, heads, head_dim = k.shape
    if tokens == 0:
        return
    assert k_cache.stride() == v_cache.stride()
    _kv_write_kernel[(tokens,)](
        k,
        v,
        k_cache,
        v_cache,
        slots,
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        heads,
        head_dim,
        k_cache.shape[1],
        HEADS=power_of_two(heads),
        HEAD_DIM=power_of_two(head_dim),
    )


@triton.jit
def _kv_write_kernel(
    k_ptr,
    v_ptr,
    k_cache_ptr,
    v_cache_ptr,
    slots_ptr,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    heads,
    head_dim,
    block_size,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token)
    if slot < 0:
        return
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, HEAD_DIM)[None, :]
    inside = (head < heads) & (column < head_dim)
    to = (slot // block_size) * cache_block_stride + (slot % block_size) * cache_offset_stride
    to = to + head * cache_head_stride + column
    k = tl.load(k_ptr + token * k_token_stride + head * k_head_stride + column, mask=inside)
    v = tl.load(v_ptr + token * v_token_stride + head * v_head_stride + column, mask=inside)
    tl.store(k_cache_ptr + to, k, mask=inside)
    tl.store(v_cache_ptr + to, v, mask=inside)
