"""Owns the kernel of `qkv_to_cache` for many tokens: one program per (tile of tokens, several heads of a slice)."""

from loraplex.kernels.language import tl, triton
from loraplex.kernels.lora.one_token import rank_rows, row_offsets
from loraplex.kernels.lora.runs import (
    expand_block,
    low_rank,
    rank_row_block,
    run_of,
    tile_runs,
)
from loraplex.kernels.norm import scaled
from loraplex.kernels.qkv.slices import heads_of


@triton.jit(do_not_specialize=["module", "num_tokens"])
def prefill_kernel(  # noqa: C901 - a branch for each part a model may lack
    qkv_ptr,
    k_cache_ptr,
    v_cache_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    kv_slots_ptr,
    q_norm_ptr,
    k_norm_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
    num_tokens,
    num_modules,
    module,
    q_heads,
    kv_heads,
    head_dim,
    half,
    block_size,
    eps,
    qkv_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    HAS_NORM: tl.constexpr,
    HAS_LORA: tl.constexpr,
    SPLITS: tl.constexpr,
    TILE: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    HEADS: tl.constexpr,
    WAYS: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    start = tl.program_id(0) * TILE
    part, heads, slice_head, first_head = heads_of(tl.program_id(1), q_heads, kv_heads, HEADS)
    width = heads * head_dim

    lane = start + tl.arange(0, TILE)
    token = lane.to(tl.int64)
    column = tl.arange(0, HALF)
    inside = column < half
    live = lane < num_tokens
    # What all heads of a tile share is read once.
    position = tl.load(positions_ptr + token, mask=live, other=0)
    kv_slot = tl.load(kv_slots_ptr + token, mask=live, other=-1)
    place = (kv_slot // block_size) * cache_block_stride
    place += (kv_slot % block_size) * cache_offset_stride
    angle = position[:, None] * half + column[None, :]
    turned = live[:, None] & inside[None, :]
    cos = tl.load(cos_ptr + angle, mask=turned, other=0.0)
    sin = tl.load(sin_ptr + angle, mask=turned, other=0.0)
    s_at = s_ptr + part.to(tl.int64) * s_slice_stride + token * s_token_stride
    row = tl.arange(0, BLOCK_RANK)
    if HAS_LORA:
        slots, numbers, runs = tile_runs(token_slots_ptr, start, num_tokens, TILE)
    else:
        runs = 1

    run = tl.program_id(2)
    while run < runs:
        if HAS_LORA:
            slot, mine = run_of(slots, numbers, run)
            first, rank, base = rank_rows(index_ptr, slot, num_modules, module + part, 1)
            s = low_rank(s_at, s_split_stride, row, rank, mine, SPLITS)
            offset = row_offsets(b_rows_ptr, first, rank, base, row, width, ALIGNMENT)
        else:
            mine = live
        run += WAYS
        keep = mine[:, None] & inside[None, :]
        for number in range(first_head, tl.minimum(first_head + HEADS, heads)):
            at = qkv_ptr + (token * qkv_stride + (slice_head + number) * head_dim)[:, None]
            a_at = at + column[None, :]
            a = tl.load(a_at, mask=keep, other=0.0)
            b = tl.load(a_at + half, mask=keep, other=0.0)
            if REST > 0:
                rest_column = tl.arange(0, REST)
                rest_inside = rest_column < head_dim - 2 * half
                rest_keep = mine[:, None] & rest_inside[None, :]
                rest_at = at + 2 * half + rest_column[None, :]
                rest = tl.load(rest_at, mask=rest_keep, other=0.0)
            if HAS_LORA:
                within = number * head_dim + column
                a_rows = rank_row_block(arena_ptr, offset, row, rank, within, inside)
                b_rows = rank_row_block(arena_ptr, offset, row, rank, within + half, inside)
                added = expand_block(
                    s, a_rows, s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base,
                    width, mine, within, inside, SPLITS, ALIGNMENT, DOT,
                )  # fmt: skip
                a = (a.to(tl.float32) + added).to(a.dtype)
                added = expand_block(
                    s, b_rows, s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base,
                    width, mine, within + half, inside, SPLITS, ALIGNMENT, DOT,
                )  # fmt: skip
                b = (b.to(tl.float32) + added).to(b.dtype)
                if REST > 0:
                    within = number * head_dim + 2 * half + rest_column
                    rest_rows = rank_row_block(arena_ptr, offset, row, rank, within, rest_inside)
                    added = expand_block(
                        s, rest_rows, s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank,
                        base, width, mine, within, rest_inside, SPLITS, ALIGNMENT, DOT,
                    )  # fmt: skip
                    rest = (rest.to(tl.float32) + added).to(rest.dtype)

            if part < 2:
                if HAS_NORM:
                    wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
                    squares = tl.sum(wide_a * wide_a, axis=1) + tl.sum(wide_b * wide_b, axis=1)
                    if REST > 0:
                        wide_rest = rest.to(tl.float32)
                        squares += tl.sum(wide_rest * wide_rest, axis=1)
                    scale = tl.rsqrt(squares / head_dim + eps)[:, None]
                    weight_ptr = q_norm_ptr
                    if part == 1:
                        weight_ptr = k_norm_ptr
                    weight = tl.load(weight_ptr + column, mask=inside, other=0.0)
                    a = scaled(a, scale, weight[None, :])
                    weight = tl.load(weight_ptr + half + column, mask=inside, other=0.0)
                    b = scaled(b, scale, weight[None, :])
                    if REST > 0:
                        weight_at = weight_ptr + 2 * half + rest_column
                        weight = tl.load(weight_at, mask=rest_inside, other=0.0)
                        rest = scaled(rest, scale, weight[None, :])
                wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
                a = (wide_a * cos - wide_b * sin).to(a.dtype)
                b = (wide_b * cos + wide_a * sin).to(b.dtype)

            if part == 0:
                tl.store(a_at, a, mask=keep)
                tl.store(a_at + half, b, mask=keep)
                if REST > 0:
                    tl.store(rest_at, rest, mask=rest_keep)
            else:
                written = (kv_slot >= 0)[:, None]
                cache_ptr = k_cache_ptr
                if part == 2:
                    cache_ptr = v_cache_ptr
                to = cache_ptr + (place + number * cache_head_stride)[:, None]
                tl.store(to + column[None, :], a, mask=keep & written)
                tl.store(to + half + column[None, :], b, mask=keep & written)
                if REST > 0:
                    rest_to = to + 2 * half + rest_column[None, :]
                    tl.store(rest_to, rest, mask=rest_keep & written)
