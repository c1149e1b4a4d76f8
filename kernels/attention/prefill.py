"""Owns attention of sequences with several queries: one program per (query tile, KV head), longest tiles first.

The rows of a tile are query tokens × the query heads that share the KV head, so keys and values are read once per
group. Keys that every row sees are attended without masks; only the tiles at the diagonal, at the edge of a window and
at the end of a sequence pay for them.
"""

from typing import NamedTuple

import torch

from loraplex.kernels.attention.keys import attend_keys
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.language import dot_dtype, power_of_two, tl, triton


class PrefillLaunch(NamedTuple):
    """Launch constants: rows of a tile, keys per iteration, warps, pipeline stages."""

    rows: int
    keys: int
    warps: int
    stages: int


def prefill_launch(dtype: torch.dtype, head_dim: int) -> PrefillLaunch:
    """Launch constants. Microseconds per layer on one H200, 32 query and 8 KV heads of 128, bfloat16:

    | rows, keys, warps, stages        | 64, 64, 4, 5 | 64, 64, 4, 2 | 128, 64, 8, 5 | 128, 128, 8, 5 |
    | 4 sequences, 16 queries, 1000 keys | 23         | 30           | 28            | 30             |
    | 64 queries, 1000 keys            | 24           | 23           | 30            | 30             |
    | 2048 queries, 2048 keys          | 124          | 115          | 116           | 118            |
    | 2048 queries, 8192 keys          | 673          | 711          | 654           | 594            |
    """
    if dtype is torch.float32 or head_dim > 128:
        return PrefillLaunch(64, 32, 4, 2)
    return PrefillLaunch(64, 64, 4, 5)


def prefill_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    out: torch.Tensor,
    meta: AttentionMeta,
    tiles: torch.Tensor,
    scale: float,
    window: int,
    soft_cap: float,
    launch: PrefillLaunch,
) -> None:
    """Write to `out` the attention of query tiles, as in `PrefillPlan`; other arguments as in `paged_attention`."""
    query_heads, head_dim = q.shape[1:]
    block_size, kv_heads = k_cache.shape[1:3]
    group = query_heads // kv_heads
    rows = max(power_of_two(group), launch.rows)
    _prefill_kernel[(len(tiles) * kv_heads,)](
        q,
        k_cache,
        v_cache,
        out,
        tiles,
        meta.query_starts,
        meta.seq_lens,
        meta.block_tables,
        kv_heads,
        scale,
        soft_cap,
        window,
        q.stride(0),
        q.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        out.stride(0),
        out.stride(1),
        meta.block_tables.stride(0),
        GROUP=group,
        BLOCK=block_size,
        HAS_WINDOW=window > 0,
        HAS_SOFT_CAP=soft_cap > 0,
        ROWS=rows,
        KEYS=launch.keys,
        HEAD=head_dim,
        HEAD_DIM=max(16, power_of_two(head_dim)),
        DOT=dot_dtype(q.dtype),
        num_warps=launch.warps,
        num_stages=launch.stages,
    )


@triton.jit(do_not_specialize=["block_tables_stride", "window"])
def _prefill_kernel(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    out_ptr,
    tiles_ptr,
    query_starts_ptr,
    seq_lens_ptr,
    block_tables_ptr,
    kv_heads,
    scale,
    soft_cap,
    window,
    q_token_stride,
    q_head_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    out_token_stride,
    out_head_stride,
    block_tables_stride,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DOT: tl.constexpr,
):
    TOKENS: tl.constexpr = ROWS // GROUP
    tile = tl.program_id(0) // kv_heads * 4
    kv_head = tl.program_id(0) % kv_heads
    sequence = tl.load(tiles_ptr + tile)
    first_query = tl.load(tiles_ptr + tile + 1)
    query_start = tl.load(query_starts_ptr + sequence)
    query_len = tl.load(query_starts_ptr + sequence + 1) - query_start
    kv_len = tl.load(seq_lens_ptr + sequence)

    row = tl.arange(0, ROWS)
    query = first_query + row // GROUP
    head = kv_head * GROUP + row % GROUP
    live = (row < TOKENS * GROUP) & (query < query_len)
    column = tl.arange(0, HEAD_DIM)
    in_head = column < HEAD
    token = (query_start + query).to(tl.int64)
    q = tl.load(
        q_ptr + (token * q_token_stride + head * q_head_stride)[:, None] + column[None, :],
        mask=live[:, None] & in_head[None, :],
        other=0.0,
    ).to(DOT)

    before = kv_len - query_len
    position = before + query
    # Keys past the tile's last query are seen by none of its rows.
    last_key = before + tl.minimum(first_query + TOKENS, query_len)
    # Whole iterations that all rows see: keys 0 to the first query's own.
    full_end = (before + first_query + 1) // KEYS * KEYS
    seen_from = 0
    first_key = 0
    full_start = 0
    if HAS_WINDOW:
        seen_from = tl.maximum(before + first_query - window + 1, 0)
        # Rounded down so that a key's place among KEYS does not depend on the tile.
        first_key = seen_from // KEYS * KEYS
        full_start = tl.cdiv(tl.maximum(last_key - window, 0), KEYS) * KEYS
        full_start = tl.minimum(full_start, tl.maximum(full_end, first_key))
    full_end = tl.maximum(full_end, full_start)

    highest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, HEAD_DIM], dtype=tl.float32)
    table = block_tables_ptr + sequence.to(tl.int64) * block_tables_stride
    k_at = k_cache_ptr + kv_head * cache_head_stride
    v_at = v_cache_ptr + kv_head * cache_head_stride
    if HAS_WINDOW:
        acc, highest, total = attend_keys(
            acc, highest, total, q, position, first_key, full_start, seen_from, last_key, table,
            k_at, v_at, cache_block_stride, cache_offset_stride, scale, soft_cap, window,
            True, True, HAS_WINDOW, HAS_SOFT_CAP, BLOCK, KEYS, HEAD, HEAD_DIM, DOT,
        )  # fmt: skip
    acc, highest, total = attend_keys(
        acc, highest, total, q, position, full_start, full_end, seen_from, last_key, table,
        k_at, v_at, cache_block_stride, cache_offset_stride, scale, soft_cap, window,
        False, True, HAS_WINDOW, HAS_SOFT_CAP, BLOCK, KEYS, HEAD, HEAD_DIM, DOT,
    )  # fmt: skip
    acc, highest, total = attend_keys(
        acc, highest, total, q, position, full_end, last_key, seen_from, last_key, table,
        k_at, v_at, cache_block_stride, cache_offset_stride, scale, soft_cap, window,
        True, True, HAS_WINDOW, HAS_SOFT_CAP, BLOCK, KEYS, HEAD, HEAD_DIM, DOT,
    )  # fmt: skip

    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out_ptr + (token * out_token_stride + head * out_head_stride)[:, None] + column[None, :],
        result.to(out_ptr.dtype.element_ty),
        mask=live[:, None] & in_head[None, :],
    )
