"""Owns the LoRA shrink for many tokens: one program per (tile of tokens, part of in_features), for all slices at once,
so that x is read once."""

import torch

from loraplex.kernels.language import dot_dtype, power_of_two, tl, triton
from loraplex.kernels.lora.partial_sums import partial_sums
from loraplex.kernels.lora.runs import tile_slots
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import PREFILL_SHRINK


def prefill_shrink(
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    num_slices: int,
    columns: int,
) -> torch.Tensor:
    """`lora_shrink_triton` for more tokens than decode kernels take; `columns` is R of its result."""
    tokens, in_features = x.shape
    tiles = PREFILL_SHRINK
    s, split_size = partial_sums(x, num_slices, columns, tiles.block, tiles.splits)
    _prefill_shrink_kernel[(-(-tokens // tiles.tile), len(s), segments.ways)](
        x,
        tables.arena,
        tables.a_rows,
        tables.index,
        segments.token_slots,
        s,
        tokens,
        in_features,
        tables.index.shape[1],
        first_module,
        split_size,
        x.stride(0),
        s.stride(0),
        s.stride(1),
        s.stride(2),
        SLICES=num_slices,
        WAYS=segments.ways,
        TILE=tiles.tile,
        BLOCK_RANK=tiles.block_rank * power_of_two(num_slices),
        BLOCK_IN=tiles.block,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(x.dtype),
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    return s


@triton.jit(do_not_specialize=["first_module", "num_tokens"])
def _prefill_shrink_kernel(
    x_ptr,
    arena_ptr,
    a_rows_ptr,
    index_ptr,
    token_slots_ptr,
    s_ptr,
    num_tokens,
    in_features,
    num_modules,
    first_module,
    split_size,
    x_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    SLICES: tl.constexpr,
    WAYS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    start = tl.program_id(0) * TILE
    split = tl.program_id(1)
    in_start = split * split_size
    in_stop = tl.minimum(in_start + split_size, in_features)
    lane = tl.arange(0, TILE)
    slots = tile_slots(token_slots_ptr, start, num_tokens, TILE)
    before = tl.load(token_slots_ptr + start + lane - 1, mask=(slots >= 0) & (lane > 0), other=-1)
    opens = (slots >= 0) & (slots != before)
    entry = index_ptr + (slots.to(tl.int64) * num_modules + first_module) * 4
    rows = tl.zeros([TILE], dtype=tl.int32)
    for number in tl.static_range(SLICES):
        rows += tl.load(entry + 4 * number + 1, mask=opens, other=0).to(tl.int32)
    # The rows of all runs of the tile, one run below the other, and in each run one slice below the other.
    ends = tl.cumsum(rows, 0)
    begins = ends - rows
    token = (start + lane).to(tl.int64)
    x_at = x_ptr + token * x_stride
    s_at = s_ptr + split.to(tl.int64) * s_split_stride + token * s_token_stride
    for block in range(tl.program_id(2) * BLOCK_RANK, tl.max(ends, axis=0), WAYS * BLOCK_RANK):
        k = block + tl.arange(0, BLOCK_RANK)
        # Which token opens the run that row k belongs to; its numbers are taken over by sums with one term each.
        hit = (begins[:, None] <= k[None, :]) & (k[None, :] < ends[:, None])
        slot = tl.sum(tl.where(hit, slots[:, None] + 1, 0), axis=0) - 1
        row = k - tl.sum(tl.where(hit, begins[:, None], 0), axis=0)
        used = slot >= 0
        module_at = index_ptr + (slot.to(tl.int64) * num_modules + first_module) * 4
        part = tl.zeros([BLOCK_RANK], dtype=tl.int32)
        for other in tl.static_range(SLICES - 1):
            rank = tl.load(module_at + 4 * other + 1, mask=used, other=0).to(tl.int32)
            past = (part == other) & (row >= rank)
            row -= tl.where(past, rank, 0)
            part += past.to(tl.int32)
        first = tl.load(module_at + 4 * part, mask=used, other=0)
        base = tl.load(module_at + 4 * part + 2, mask=used, other=0)
        listed = tl.load(a_rows_ptr + first + row, mask=used & (base < 0), other=0)
        a_row = tl.where(base < 0, listed, base + row * in_features)
        # Tells the compiler what the offsets are multiples of, and so how wide its loads may be.
        a_at = arena_ptr + a_row // ALIGNMENT * ALIGNMENT
        acc = tl.zeros([TILE, BLOCK_RANK], dtype=tl.float32)
        for block_start in range(in_start, in_stop, BLOCK_IN):
            column = block_start + tl.arange(0, BLOCK_IN)
            inside = column < in_features
            x_keep = (slots >= 0)[:, None] & inside[None, :]
            x = tl.load(x_at[:, None] + column[None, :], mask=x_keep, other=0.0)
            a_keep = used[None, :] & inside[:, None]
            a = tl.load(a_at[None, :] + column[:, None], mask=a_keep, other=0.0)
            acc = tl.dot(x.to(DOT), a.to(DOT), acc, input_precision="ieee")
        own = (slots[:, None] == slot[None, :]) & used[None, :]
        tl.store(s_at[:, None] + (part * s_slice_stride + row)[None, :], acc, mask=own)
