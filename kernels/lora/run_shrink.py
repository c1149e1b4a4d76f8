"""Owns the LoRA shrink for batches in which adapters may have several tokens: one program per (adapter in a tile of
tokens, slice, split), so that rows of A are read once for all of an adapter's tokens in the tile.

Every token there is has a program; the one of an adapter's first token in the tile does the work, the others end at
once. How many tokens share a tile's product changes no bit of it: each is a row of its own.
"""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import dot_dtype, start_early, tl, triton
from loraplex.kernels.lora.one_token import rank_rows, row_offsets
from loraplex.kernels.lora.partial_sums import partial_sums
from loraplex.kernels.lora.runs import tile_slots
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import DECODE_RANK, RunShrink

# The least that a tensor-core product takes.
_TILE = 16


def run_shrink(
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    num_slices: int,
    columns: int,
    launch: RunShrink,
    *,
    beside: bool,
) -> torch.Tensor:
    """`lora_shrink_triton` for batches of several tokens per adapter, `columns` wide; `beside`: see there."""
    tokens, in_features = x.shape
    s, split_size = partial_sums(x, num_slices, columns, launch.block, launch.splits)
    early = dispatch.early_launch(x) and not beside
    _run_shrink_kernel[(tokens, num_slices, len(s))](
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
        TILE=_TILE,
        BLOCK_RANK=DECODE_RANK,
        BLOCK_IN=launch.block,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(x.dtype),
        EARLY=early,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        launch_pdl=early,
    )
    return s


@triton.jit(do_not_specialize=["tokens", "first_module", "s_split_stride", "s_slice_stride"])
def _run_shrink_kernel(
    x_ptr,
    arena_ptr,
    a_rows_ptr,
    index_ptr,
    token_slots_ptr,
    s_ptr,
    tokens,
    in_features,
    num_modules,
    first_module,
    split_size,
    x_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    TILE: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    own = tl.program_id(0)
    start = own // TILE * TILE
    slot = tl.load(token_slots_ptr + own)
    mine = tile_slots(token_slots_ptr, start, tokens, TILE) == slot
    lane = tl.arange(0, TILE)
    first_lane = tl.min(tl.where(mine, lane, TILE), axis=0)
    if (slot < 0) | (start + first_lane != own):
        return
    part = tl.program_id(1)
    split = tl.program_id(2)
    first, rank, base = rank_rows(index_ptr, slot, num_modules, first_module + part, 0)
    token = (start + lane).to(tl.int64)
    x_at = x_ptr + token * x_stride
    s_at = s_ptr + split.to(tl.int64) * s_split_stride + part.to(tl.int64) * s_slice_stride
    s_at += token * s_token_stride
    in_start = split * split_size
    in_stop = tl.minimum(in_start + split_size, in_features)
    for row_start in range(0, rank, BLOCK_RANK):
        row = row_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        offset = row_offsets(a_rows_ptr, first, rank, base, row, in_features, ALIGNMENT)
        acc = tl.zeros([TILE, BLOCK_RANK], dtype=tl.float32)
        for block_start in range(in_start, in_stop, BLOCK_IN):
            column = block_start + tl.arange(0, BLOCK_IN)
            inside = column < in_stop
            a_at = arena_ptr + offset[:, None] + column[None, :]
            a = tl.load(a_at, mask=used[:, None] & inside[None, :], other=0.0)
            x_mask = mine[:, None] & inside[None, :]
            x = tl.load(x_at[:, None] + column[None, :], mask=x_mask, other=0.0)
            acc = tl.dot(x.to(DOT), a.to(DOT).T, acc, input_precision="ieee")
        tl.store(s_at[:, None] + row[None, :], acc, mask=mine[:, None] & used[None, :])
