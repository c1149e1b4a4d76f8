"""Owns writing a step's keys and values into the paged cache in plain torch; on a GPU `kernels.qkv` does it on the
way."""

import torch


def kv_write_reference(
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
    if slots.numel() and int(slots.min()) < 0:
        kept = slots >= 0
        k, v, slots = k[kept], v[kept], slots[kept]
    block_size = k_cache.shape[1]
    at = (slots // block_size, slots % block_size)
    k_cache.index_put_(at, k)
    v_cache.index_put_(at, v)
