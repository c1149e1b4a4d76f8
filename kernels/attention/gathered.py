"""Owns attention of long query chunks over gathered keys: the sequence's blocks are first copied to contiguous rows per
head, which the copy engine then brings to the tensor cores without any address arithmetic in the loop.

The copy costs what reading the keys once costs; the loop reads them once per tile of queries.
"""

from typing import NamedTuple

import torch

from loraplex.kernels.attention.keys import in_log2
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.language import dot_dtype, power_of_two, tl, triton


class GatheredLaunch(NamedTuple):
    """Launch constants: rows of a tile, keys per iteration, warps, pipeline stages."""

    rows: int
    keys: int
    warps: int
    stages: int


def gathered_launch(head_dim: int) -> GatheredLaunch:
    """Launch constants. Microseconds per layer, the copy included, and TFLOP/s on one H200, 32 query and 8 KV heads of
    128, bfloat16; the last column is the kernel without a copy (`prefill.py`) at its best:

    | rows, keys, warps, stages | 64, 64, 4, 3 | 64, 64, 4, 2 | 128, 128, 8, 3 | 128, 64, 8, 3 | no copy |
    | 2048 queries, 2048 keys   | 91 (378)     | 92           | 100            | 102           | 115     |
    | 2048 queries, 8192 keys   | 497 (484)    | 587          | 504            | 554           | 594     |
    | 8 × 256 queries and keys  | 35 (123)     | 34           | 43             | 40            | 35      |
    | 64 queries, 1000 keys     | 18 (55)      | 21           | 27             | 27            | 23      |
    """
    return GatheredLaunch(64, 64, 4, 3) if head_dim <= 128 else GatheredLaunch(64, 32, 4, 2)


def gathered_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    out: torch.Tensor,
    meta: AttentionMeta,
    tiles: torch.Tensor,
    blocks: torch.Tensor,
    scale: float,
    soft_cap: float,
    launch: GatheredLaunch,
) -> None:
    """Write to `out` the attention of query tiles over gathered blocks, both as in `PrefillPlan`; other arguments as in
    `paged_attention`."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    query_heads, head_dim = q.shape[1:]
    block_size, kv_heads = k_cache.shape[1:3]
    group = query_heads // kv_heads
    rows = max(power_of_two(group), launch.rows)
    keys = torch.empty(
        (2, kv_heads, len(blocks) * block_size, head_dim), dtype=q.dtype, device=q.device
    )
    _gather_kernel[(len(blocks), kv_heads, 2)](
        k_cache,
        v_cache,
        keys,
        blocks,
        meta.seq_lens,
        meta.block_tables,
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        keys.stride(0),
        keys.stride(1),
        meta.block_tables.stride(0),
        BLOCK=block_size,
        HEAD=head_dim,
        num_warps=1,
    )
    k_rows, v_rows = (
        TensorDescriptor.from_tensor(part.flatten(0, 1), [launch.keys, head_dim]) for part in keys
    )
    _gathered_kernel[(len(tiles) * kv_heads,)](
        q,
        k_rows,
        v_rows,
        out,
        tiles,
        meta.query_starts,
        meta.seq_lens,
        kv_heads,
        keys.shape[2],
        scale,
        soft_cap,
        q.stride(0),
        q.stride(1),
        out.stride(0),
        out.stride(1),
        GROUP=group,
        HAS_SOFT_CAP=soft_cap > 0,
        ROWS=rows,
        KEYS=launch.keys,
        HEAD=head_dim,
        DOT=dot_dtype(q.dtype),
        num_warps=launch.warps,
        num_stages=launch.stages,
    )


@triton.jit(do_not_specialize=["block_tables_stride"])
def _gather_kernel(
    k_cache_ptr,
    v_cache_ptr,
    keys_ptr,
    blocks_ptr,
    seq_lens_ptr,
    block_tables_ptr,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    keys_part_stride,
    keys_head_stride,
    block_tables_stride,
    BLOCK: tl.constexpr,
    HEAD: tl.constexpr,
):
    number = tl.program_id(0)
    kv_head = tl.program_id(1)
    sequence = tl.load(blocks_ptr + number * 2)
    place = tl.load(blocks_ptr + number * 2 + 1)
    kv_len = tl.load(seq_lens_ptr + sequence)
    offset = tl.arange(0, BLOCK)
    column = tl.arange(0, HEAD)
    # Zeros past the end: 0 × NaN of a stale row would be NaN.
    present = (place * BLOCK + offset < kv_len)[:, None]
    block = tl.load(
        block_tables_ptr + sequence.to(tl.int64) * block_tables_stride + place,
        mask=place * BLOCK < kv_len,
        other=0,
    ).to(tl.int64)
    source = (
        block * cache_block_stride
        + kv_head * cache_head_stride
        + (offset * cache_offset_stride)[:, None]
        + column[None, :]
    )
    if tl.program_id(2) == 0:
        values = tl.load(k_cache_ptr + source, mask=present, other=0.0)
    else:
        values = tl.load(v_cache_ptr + source, mask=present, other=0.0)
    target = (
        tl.program_id(2).to(tl.int64) * keys_part_stride + kv_head.to(tl.int64) * keys_head_stride
    )
    row = number * BLOCK + offset
    tl.store(keys_ptr + target + (row * HEAD)[:, None] + column[None, :], values)


@triton.jit
def _attend_rows(
    acc,
    highest,
    total,
    q,
    position,
    first_key,
    last_key,
    first_row,
    k_rows,
    v_rows,
    scale,
    soft_cap,
    MASKED: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    KEYS: tl.constexpr,
    DOT: tl.constexpr,
):
    for key_start in range(first_key, last_key, KEYS):
        k = k_rows.load([first_row + key_start, 0])
        scores = tl.dot(q, k.to(DOT).T)
        scores = in_log2(scores, scale, soft_cap, HAS_SOFT_CAP)
        if MASKED:
            key = key_start + tl.arange(0, KEYS)
            scores = tl.where(key[None, :] <= position[:, None], scores, float("-inf"))
        # Key 0 is seen by every row and comes first, so no maximum is -inf.
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, axis=1)
        acc = acc * shrink[:, None]
        v = v_rows.load([first_row + key_start, 0])
        acc = tl.dot(weights.to(v.dtype).to(DOT), v.to(DOT), acc)
        highest = higher
    return acc, highest, total


@triton.jit(do_not_specialize=["rows_per_head"])
def _gathered_kernel(
    q_ptr,
    k_rows,
    v_rows,
    out_ptr,
    tiles_ptr,
    query_starts_ptr,
    seq_lens_ptr,
    kv_heads,
    rows_per_head,
    scale,
    soft_cap,
    q_token_stride,
    q_head_stride,
    out_token_stride,
    out_head_stride,
    GROUP: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    DOT: tl.constexpr,
):
    TOKENS: tl.constexpr = ROWS // GROUP
    tile = tl.program_id(0) // kv_heads * 4
    kv_head = tl.program_id(0) % kv_heads
    sequence = tl.load(tiles_ptr + tile)
    first_query = tl.load(tiles_ptr + tile + 1)
    first_row = tl.load(tiles_ptr + tile + 2) + kv_head * rows_per_head
    query_start = tl.load(query_starts_ptr + sequence)
    query_len = tl.load(query_starts_ptr + sequence + 1) - query_start
    before = tl.load(seq_lens_ptr + sequence) - query_len

    row = tl.arange(0, ROWS)
    query = first_query + row // GROUP
    head = kv_head * GROUP + row % GROUP
    live = (row < TOKENS * GROUP) & (query < query_len)
    column = tl.arange(0, HEAD)
    token = (query_start + query).to(tl.int64)
    q = tl.load(
        q_ptr + (token * q_token_stride + head * q_head_stride)[:, None] + column[None, :],
        mask=live[:, None],
        other=0.0,
    ).to(DOT)
    position = before + query
    last_key = before + tl.minimum(first_query + TOKENS, query_len)
    # Whole iterations that all rows see: keys 0 to the first query's own.
    full_end = (before + first_query + 1) // KEYS * KEYS
    highest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, HEAD], dtype=tl.float32)
    acc, highest, total = _attend_rows(
        acc, highest, total, q, position, 0, full_end, first_row, k_rows, v_rows, scale, soft_cap,
        False, HAS_SOFT_CAP, KEYS, DOT,
    )  # fmt: skip
    acc, highest, total = _attend_rows(
        acc, highest, total, q, position, full_end, last_key, first_row, k_rows, v_rows, scale, soft_cap,
        True, HAS_SOFT_CAP, KEYS, DOT,
    )  # fmt: skip
    tl.store(
        out_ptr + (token * out_token_stride + head * out_head_stride)[:, None] + column[None, :],
        (acc / total[:, None]).to(out_ptr.dtype.element_ty),
        mask=live[:, None],
    )
