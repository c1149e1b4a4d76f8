"""Owns the LoRA expand for many tokens: one program per (tile of tokens, several blocks of columns of a slice)."""

import torch

from loraplex.kernels.language import dot_dtype, tl, triton
from loraplex.kernels.lora.one_token import rank_rows, row_offsets
from loraplex.kernels.lora.runs import (
    expand_block,
    low_rank,
    rank_row_block,
    run_of,
    tile_runs,
)
from loraplex.kernels.lora.slices import slice_of
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import PREFILL_EXPAND


def prefill_expand(
    y: torch.Tensor,
    s: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    widths: tuple[int, ...],
) -> None:
    """`lora_expand_triton` for more tokens than decode kernels take; 3 widths, 0 for slices that are not there."""
    tokens = y.shape[0]
    tiles = PREFILL_EXPAND
    chunk = tiles.block * tiles.blocks
    chunks = sum(-(-width // chunk) for width in widths)
    _prefill_expand_kernel[(-(-tokens // tiles.tile), chunks, segments.ways)](
        y,
        s,
        tables.arena,
        tables.b_rows,
        tables.index,
        segments.token_slots,
        tokens,
        tables.index.shape[1],
        first_module,
        widths[0],
        widths[1],
        widths[2],
        y.stride(0),
        s.stride(0),
        s.stride(1),
        s.stride(2),
        SPLITS=s.shape[0],
        TILE=tiles.tile,
        BLOCK_RANK=tiles.block_rank,
        BLOCK_OUT=tiles.block,
        CHUNK=chunk,
        WAYS=segments.ways,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(tables.arena.dtype),
        num_warps=tiles.num_warps,
    )


@triton.jit(do_not_specialize=["first_module", "num_tokens"])
def _prefill_expand_kernel(
    y_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
    num_tokens,
    num_modules,
    first_module,
    width_0,
    width_1,
    width_2,
    y_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    SPLITS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    CHUNK: tl.constexpr,
    WAYS: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    part, width, offset_in_y, chunk = slice_of(tl.program_id(1), width_0, width_1, width_2, CHUNK)
    start = tl.program_id(0) * TILE
    slots, numbers, runs = tile_runs(token_slots_ptr, start, num_tokens, TILE)
    token = (start + tl.arange(0, TILE)).to(tl.int64)
    y_at = y_ptr + token * y_stride + offset_in_y
    s_at = s_ptr + part.to(tl.int64) * s_slice_stride + token * s_token_stride
    row = tl.arange(0, BLOCK_RANK)
    number = tl.program_id(2)
    while number < runs:
        slot, mine = run_of(slots, numbers, number)
        number += WAYS
        first, rank, base = rank_rows(index_ptr, slot, num_modules, first_module + part, 1)
        if rank > 0:
            s = low_rank(s_at, s_split_stride, row, rank, mine, SPLITS)
            offset = row_offsets(b_rows_ptr, first, rank, base, row, width, ALIGNMENT)
            for left in range(chunk * CHUNK, tl.minimum((chunk + 1) * CHUNK, width), BLOCK_OUT):
                column = left + tl.arange(0, BLOCK_OUT)
                inside = column < width
                b = rank_row_block(arena_ptr, offset, row, rank, column, inside)
                keep = mine[:, None] & inside[None, :]
                y = tl.load(y_at[:, None] + column[None, :], mask=keep, other=0.0)
                added = expand_block(
                    s, b, s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base, width,
                    mine, column, inside, SPLITS, ALIGNMENT, DOT,
                )  # fmt: skip
                y = (y.to(tl.float32) + added).to(y.dtype)
                tl.store(y_at[:, None] + column[None, :], y, mask=keep)
