"""Owns SiLU·mul of a gate_up projection with its adapters for many tokens: one program per (tile of tokens, several
blocks of columns)."""

import torch

from loraplex.kernels.language import dot_dtype, tl, triton
from loraplex.kernels.lora.apply import LoRADelta
from loraplex.kernels.lora.one_token import rank_rows, row_offsets
from loraplex.kernels.lora.runs import (
    expand_block,
    low_rank,
    rank_row_block,
    run_of,
    tile_runs,
)
from loraplex.kernels.lora.tables import ROW_ALIGNMENT
from loraplex.kernels.lora.tuning import PREFILL_SILU


def prefill_silu_mul(x: torch.Tensor, out: torch.Tensor, delta: LoRADelta) -> None:
    """`silu_mul_triton` into `out` for more tokens than decode kernels take."""
    tokens, size = out.shape
    tables, s = delta.tables, delta.s
    tiles = PREFILL_SILU
    chunk = tiles.block * tiles.blocks
    _prefill_silu_mul_kernel[(-(-tokens // tiles.tile), -(-size // chunk), delta.segments.ways)](
        x,
        out,
        s,
        tables.arena,
        tables.b_rows,
        tables.index,
        delta.segments.token_slots,
        tokens,
        tables.index.shape[1],
        delta.first_module,
        size,
        x.stride(0),
        s.stride(0),
        s.stride(1),
        s.stride(2),
        SPLITS=s.shape[0],
        TILE=tiles.tile,
        BLOCK_RANK=tiles.block_rank,
        BLOCK_OUT=tiles.block,
        CHUNK=chunk,
        WAYS=delta.segments.ways,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(tables.arena.dtype),
        num_warps=tiles.num_warps,
    )


@triton.jit
def silu_product(gate, up):
    """silu(gate) × up, silu rounded before the product."""
    wide = gate.to(tl.float32)
    # Below -80 silu is zero for all purposes; e^-x would overflow soon after.
    silu = (wide / (1.0 + tl.exp(tl.minimum(-wide, 80.0)))).to(gate.dtype)
    return (silu.to(tl.float32) * up.to(tl.float32)).to(gate.dtype)


@triton.jit(do_not_specialize=["first_module", "num_tokens"])
def _prefill_silu_mul_kernel(
    x_ptr,
    out_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
    num_tokens,
    num_modules,
    first_module,
    size,
    x_stride,
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
    start = tl.program_id(0) * TILE
    left = tl.program_id(1) * CHUNK
    slots, numbers, runs = tile_runs(token_slots_ptr, start, num_tokens, TILE)
    token = (start + tl.arange(0, TILE)).to(tl.int64)
    gate_s_at = s_ptr + token * s_token_stride
    up_s_at = gate_s_at + s_slice_stride
    row = tl.arange(0, BLOCK_RANK)
    number = tl.program_id(2)
    while number < runs:
        slot, mine = run_of(slots, numbers, number)
        number += WAYS
        first, rank, base = rank_rows(index_ptr, slot, num_modules, first_module, 1)
        up_first, up_rank, up_base = rank_rows(index_ptr, slot, num_modules, first_module + 1, 1)
        offset = row_offsets(b_rows_ptr, first, rank, base, row, size, ALIGNMENT)
        up_offset = row_offsets(b_rows_ptr, up_first, up_rank, up_base, row, size, ALIGNMENT)
        gate_s = low_rank(gate_s_at, s_split_stride, row, rank, mine, SPLITS)
        up_s = low_rank(up_s_at, s_split_stride, row, up_rank, mine, SPLITS)
        for at in range(left, tl.minimum(left + CHUNK, size), BLOCK_OUT):
            column = at + tl.arange(0, BLOCK_OUT)
            inside = column < size
            gate_b = rank_row_block(arena_ptr, offset, row, rank, column, inside)
            up_b = rank_row_block(arena_ptr, up_offset, row, up_rank, column, inside)
            keep = mine[:, None] & inside[None, :]
            gate_at = x_ptr + (token * x_stride)[:, None] + column[None, :]
            gate = tl.load(gate_at, mask=keep, other=0.0)
            up = tl.load(gate_at + size, mask=keep, other=0.0)
            added = expand_block(
                gate_s, gate_b, gate_s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank,
                base, size, mine, column, inside, SPLITS, ALIGNMENT, DOT,
            )  # fmt: skip
            gate = (gate.to(tl.float32) + added).to(gate.dtype)
            added = expand_block(
                up_s, up_b, up_s_at, s_split_stride, arena_ptr, b_rows_ptr, up_first, up_rank,
                up_base, size, mine, column, inside, SPLITS, ALIGNMENT, DOT,
            )  # fmt: skip
            up = (up.to(tl.float32) + added).to(up.dtype)
            out_at = out_ptr + (token * size)[:, None] + column[None, :]
            tl.store(out_at, silu_product(gate, up), mask=keep)
