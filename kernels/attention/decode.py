"""Owns attention of sequences with a single query: their keys are split over programs, the parts summed in order.

The items of work are a list in device memory (`plan.py`) with a program for each that there may be, so one captured
graph serves every mix of lengths. The rows of an item's tile are the query heads that share its KV head. The program
that finishes the last part of a sequence sums all of them, in their order whoever is last.
"""

from typing import NamedTuple

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.attention.keys import attend_single_query, finite, write_heads
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.attention.plan import FIELDS, DecodeSplit, decode_plan, decode_split
from loraplex.kernels.language import dot_dtype, power_of_two, start_early, tl, triton


class DecodeLaunch(NamedTuple):
    """Launch constants: keys per iteration, warps, pipeline stages."""

    keys: int
    warps: int
    stages: int


def decode_launch(dtype: torch.dtype, head_dim: int) -> DecodeLaunch:
    """Launch constants.

    Microseconds per layer, 8 KV heads of 128, groups of 4, bfloat16, on one H200; floor is the bytes at 4.3 TB/s.
    Before stands for one program per sequence and KV head without a split, as in unsplit.py, which larger batches take.
    Five stages are two buffers of keys, since the loop loads a block's number first; three are one.

    | sequences × tokens | 1 × 345 | 1 × 8192 | 32 × 345 | 32 × 2048 | 128 × 345 | 256 × 345 | 512 × 256 |
    | floor              | 0.3     | 7.8      | 10.5     | 62        | 42        | 84        | 125       |
    | before             | 13.8    | 254      | 21.7     | 94        | 53        | –         | 135       |
    | 64 keys, 4 warps, 5 | 8.2    | 20.7     | 18.2     | 68        | 63        | 116       | 164       |
    | 64 keys, 2 warps, 3 | 7.8    | 26.5     | 20.8     | 71        | 54        | 101       | 141       |
    | 32 keys, 2 warps, 5 | 9.1    | 25.5     | 20.3     | 72        | 54        | 102       | 147       |
    | 32 keys, 1 warp, 5 | 9.0     | 22.5     | 20.2     | 84        | 59        | 114       | 169       |
    """
    if dtype is torch.float32 or head_dim > 128:
        return DecodeLaunch(32, 4, 2)
    return DecodeLaunch(64, 4, 5)


def decode_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    out: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int,
    soft_cap: float,
    launch: DecodeLaunch | None = None,
    split: DecodeSplit | None = None,
) -> None:
    """Write to `out` the attention of every sequence of `meta` that has one query; other arguments as in
    `paged_attention`."""
    query_heads, head_dim = q.shape[1:]
    block_size, kv_heads = k_cache.shape[1:3]
    group = query_heads // kv_heads
    sequences = len(meta.query_lens)
    launch = launch or decode_launch(q.dtype, head_dim)
    split = split or decode_split(sequences, kv_heads)
    plan = decode_plan(meta, split, kv_heads, block_size, window, launch.keys)
    group_rows = power_of_two(group)
    width = max(16, power_of_two(head_dim))
    items = plan.most_items * kv_heads
    parts = torch.empty((items, group_rows, width), dtype=torch.float32, device=q.device)
    states = torch.empty((items, 2, group_rows), dtype=torch.float32, device=q.device)
    early = dispatch.early_launch(q)
    _decode_kernel[(items,)](
        q,
        k_cache,
        v_cache,
        out,
        parts,
        states,
        plan.items,
        plan.total,
        plan.arrived,
        meta.block_tables,
        kv_heads,
        scale,
        soft_cap,
        q.stride(0),
        q.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        out.stride(0),
        out.stride(1),
        meta.block_tables.stride(0),
        FIELDS=FIELDS,
        GROUP=group,
        GROUP_ROWS=group_rows,
        ROWS=max(16, group_rows),
        BLOCK=block_size,
        HAS_SOFT_CAP=soft_cap > 0,
        KEYS=launch.keys,
        HEAD=head_dim,
        HEAD_DIM=width,
        SUMMED=launch.warps * 2,
        DOT=dot_dtype(q.dtype),
        EARLY=early,
        num_warps=launch.warps,
        num_stages=launch.stages,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["block_tables_stride"])
def _decode_kernel(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    out_ptr,
    parts_ptr,
    states_ptr,
    items_ptr,
    count_ptr,
    arrived_ptr,
    block_tables_ptr,
    kv_heads,
    scale,
    soft_cap,
    q_token_stride,
    q_head_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    out_token_stride,
    out_head_stride,
    block_tables_stride,
    FIELDS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SUMMED: tl.constexpr,
    DOT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    work = tl.program_id(0)
    if work >= tl.load(count_ptr) * kv_heads:
        return
    sequence, token, first_key, last_key, seen_from, part, parts = _item(
        items_ptr, work // kv_heads, FIELDS
    )
    kv_head = work % kv_heads
    acc, highest, total = attend_single_query(
        q_ptr + token * q_token_stride + kv_head * GROUP * q_head_stride,
        q_head_stride,
        first_key,
        last_key,
        seen_from,
        block_tables_ptr + sequence.to(tl.int64) * block_tables_stride,
        k_cache_ptr + kv_head * cache_head_stride,
        v_cache_ptr + kv_head * cache_head_stride,
        cache_block_stride,
        cache_offset_stride,
        scale,
        soft_cap,
        GROUP,
        ROWS,
        HAS_SOFT_CAP,
        BLOCK,
        KEYS,
        HEAD,
        HEAD_DIM,
        DOT,
    )
    out_at = out_ptr + token * out_token_stride + kv_head * GROUP * out_head_stride
    if parts == 1:
        write_heads(out_at, out_head_stride, acc, total, GROUP, HEAD)
    else:
        row = tl.arange(0, ROWS)
        column = tl.arange(0, HEAD_DIM)
        live = row < GROUP
        state_at = states_ptr + work * 2 * GROUP_ROWS + row
        tl.store(state_at, highest, mask=live)
        tl.store(state_at + GROUP_ROWS, total, mask=live)
        part_at = parts_ptr + work * GROUP_ROWS * HEAD_DIM
        tl.store(part_at + row[:, None] * HEAD_DIM + column[None, :], acc, mask=live[:, None])
        # The barrier orders every thread's stores before the one thread's release.
        tl.debug_barrier()
        counter = arrived_ptr + sequence * kv_heads + kv_head
        if tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == parts - 1:
            tl.store(counter, 0)
            _sum_parts(
                out_at,
                out_head_stride,
                parts_ptr,
                states_ptr,
                work - part * kv_heads,
                kv_heads,
                parts,
                GROUP,
                GROUP_ROWS,
                HEAD,
                HEAD_DIM,
                SUMMED,
            )


@triton.jit
def _item(items_ptr, number, FIELDS: tl.constexpr):
    at = items_ptr + number * FIELDS
    return (
        tl.load(at),
        tl.load(at + 1).to(tl.int64),
        tl.load(at + 2),
        tl.load(at + 3),
        tl.load(at + 4),
        tl.load(at + 5),
        tl.load(at + 6),
    )


@triton.jit
def _sum_parts(
    out_at,
    out_head_stride,
    parts_ptr,
    states_ptr,
    first,
    step,
    count,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SUMMED: tl.constexpr,
):
    """Sum the parts first, first + step, ..., SUMMED at a time, and write the result."""
    row = tl.arange(0, GROUP_ROWS)
    column = tl.arange(0, HEAD_DIM)
    highest = tl.full([GROUP_ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([GROUP_ROWS], dtype=tl.float32)
    acc = tl.zeros([GROUP_ROWS, HEAD_DIM], dtype=tl.float32)
    for start in range(0, count, SUMMED):
        part = start + tl.arange(0, SUMMED)
        slot = first + part * step
        present = (part < count)[:, None] & (row < GROUP)[None, :]
        # .cg: other multiprocessors wrote these, so they are read past this one's first-level cache.
        state_at = states_ptr + (slot * 2 * GROUP_ROWS)[:, None] + row[None, :]
        high = tl.load(state_at, mask=present, other=float("-inf"), cache_modifier=".cg")
        sums = tl.load(state_at + GROUP_ROWS, mask=present, other=0.0, cache_modifier=".cg")
        values = tl.load(
            parts_ptr
            + (slot * GROUP_ROWS * HEAD_DIM)[:, None, None]
            + (row * HEAD_DIM)[None, :, None]
            + column[None, None, :],
            mask=present[:, :, None],
            other=0.0,
            cache_modifier=".cg",
        )
        higher = tl.maximum(highest, tl.max(high, axis=0))
        base = finite(higher)
        weight = tl.exp2(high - base[None, :])
        shrink = tl.exp2(highest - base)
        total = total * shrink + tl.sum(sums * weight, axis=0)
        acc = acc * shrink[:, None] + tl.sum(values * weight[:, :, None], axis=0)
        highest = higher
    write_heads(out_at, out_head_stride, acc, total, GROUP, HEAD)
