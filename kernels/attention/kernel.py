"""Owns the Triton kernel of paged attention: one program per (query tile, KV head, sequence), online softmax.

The rows of a program's tile are query tokens × the query heads that share its KV head, so grouped-query models fill
the tensor cores also when a sequence has a single query.
"""

import torch

from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.language import dot_dtype, power_of_two, tl, triton

# Rows of a tile (query tokens × heads of a group) when every sequence has one query, and otherwise. Untuned.
_DECODE_ROWS = 16
_PREFILL_ROWS = 64
# Keys per iteration. The same for all batches: it decides the order of summation, and neighbours must not. Untuned.
_KEYS = 64
_KEYS_FLOAT32 = 32


def paged_attention_triton(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """Triton launcher of `paged_attention`."""
    tokens, query_heads, head_dim = q.shape
    kv_heads = k_cache.shape[2]
    group = query_heads // kv_heads
    out = torch.empty((tokens, query_heads, head_dim), dtype=q.dtype, device=q.device)
    longest = max(meta.query_lens, default=0)
    if tokens == 0 or longest == 0:
        return out
    assert k_cache.stride() == v_cache.stride()
    rows = max(power_of_two(group), _DECODE_ROWS if longest == 1 else _PREFILL_ROWS)
    grid = (-(-longest // (rows // group)), kv_heads, len(meta.query_lens))
    _paged_attention_kernel[grid](
        q,
        k_cache,
        v_cache,
        out,
        meta.query_starts,
        meta.seq_lens,
        meta.block_tables,
        scale,
        soft_cap,
        window,
        group,
        head_dim,
        k_cache.shape[1],
        q.stride(0),
        q.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        out.stride(0),
        out.stride(1),
        meta.block_tables.stride(0),
        HAS_WINDOW=window > 0,
        HAS_SOFT_CAP=soft_cap > 0,
        ROWS=rows,
        KEYS=_KEYS_FLOAT32 if q.dtype is torch.float32 else _KEYS,
        HEAD_DIM=max(16, power_of_two(head_dim)),
        DOT=dot_dtype(q.dtype),
        num_warps=4,
        num_stages=2,
    )
    return out


@triton.jit(do_not_specialize=["block_tables_stride"])
def _paged_attention_kernel(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    out_ptr,
    query_starts_ptr,
    seq_lens_ptr,
    block_tables_ptr,
    scale,
    soft_cap,
    window,
    group,
    head_dim,
    block_size,
    q_token_stride,
    q_head_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    out_token_stride,
    out_head_stride,
    block_tables_stride,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DOT: tl.constexpr,
):
    sequence = tl.program_id(2)
    kv_head = tl.program_id(1)
    tile_tokens = ROWS // group
    first_query = tl.program_id(0) * tile_tokens
    query_start = tl.load(query_starts_ptr + sequence)
    query_len = tl.load(query_starts_ptr + sequence + 1) - query_start
    if first_query >= query_len:
        return
    kv_len = tl.load(seq_lens_ptr + sequence)

    row = tl.arange(0, ROWS)
    query = first_query + row // group
    head = kv_head * group + row % group
    live = (row < tile_tokens * group) & (query < query_len)
    column = tl.arange(0, HEAD_DIM)
    in_head = column < head_dim
    token = (query_start + query).to(tl.int64)
    q = tl.load(
        q_ptr + (token * q_token_stride + head * q_head_stride)[:, None] + column[None, :],
        mask=live[:, None] & in_head[None, :],
        other=0.0,
    ).to(DOT)

    position = kv_len - query_len + query
    # Keys past the tile's last query are seen by none of its rows.
    last_key = kv_len - query_len + tl.minimum(first_query + tile_tokens, query_len)
    first_key = 0
    if HAS_WINDOW:
        first_key = tl.maximum(kv_len - query_len + first_query - window + 1, 0)

    log2_e = 1.4426950408889634
    highest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, HEAD_DIM], dtype=tl.float32)
    head_at = kv_head * cache_head_stride
    # Rounded down so that a key's place among KEYS does not depend on the tile.
    for key_start in range(first_key // KEYS * KEYS, last_key, KEYS):
        key = key_start + tl.arange(0, KEYS)
        present = (key >= first_key) & (key < last_key)
        block = tl.load(
            block_tables_ptr + sequence.to(tl.int64) * block_tables_stride + key // block_size,
            mask=present,
            other=0,
        ).to(tl.int64)
        at = block * cache_block_stride + (key % block_size) * cache_offset_stride + head_at
        # Loads are masked, not only scores: 0 × NaN of a stale row would be NaN.
        k = tl.load(
            k_cache_ptr + at[None, :] + column[:, None],
            mask=present[None, :] & in_head[:, None],
            other=0.0,
        ).to(DOT)
        scores = tl.dot(q, k, input_precision="ieee") * scale
        if HAS_SOFT_CAP:
            # tanh(|x|) = (1 - e^-2|x|) / (1 + e^-2|x|) cannot overflow.
            decay = tl.exp(-2.0 * tl.abs(scores / soft_cap))
            capped = soft_cap * (1.0 - decay) / (1.0 + decay)
            scores = tl.where(scores < 0.0, -capped, capped)
        seen = present[None, :] & (key[None, :] <= position[:, None])
        if HAS_WINDOW:
            seen = seen & (key[None, :] > position[:, None] - window)
        scores = tl.where(seen, scores * log2_e, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        # A row that has seen no key yet has no maximum; -inf - -inf would be NaN.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(highest - base)
        total = total * shrink + tl.sum(weights, axis=1)
        v = tl.load(
            v_cache_ptr + at[:, None] + column[None, :],
            mask=present[:, None] & in_head[None, :],
            other=0.0,
        )
        acc = acc * shrink[:, None]
        acc = tl.dot(weights.to(v.dtype).to(DOT), v.to(DOT), acc, input_precision="ieee")
        highest = higher

    # A padding sequence has no keys; zeros keep NaN out of the layers that follow.
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out_ptr + (token * out_token_stride + head * out_head_stride)[:, None] + column[None, :],
        result.to(out_ptr.dtype.element_ty),
        mask=live[:, None] & in_head[None, :],
    )
