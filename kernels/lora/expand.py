"""Owns the LoRA expand: y += s B, each token with its adapter's B, for all slices of a fused projection at once."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import dot_dtype, tl, triton
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, TILE_TOKENS, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import launch_constants

# Widths are kernel arguments, not a tensor, so that no launch needs a copy to the device.
MAX_SLICES = 3


def lora_expand(
    y: torch.Tensor,
    s: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    """Add the adapters' part to a projection's output, in place: summed in float32, rounded to y's dtype once.

    Args:
        y: [tokens, sum of slice_widths], last dimension contiguous.
        s: [splits, slices, tokens, R] float32 from a shrink.
        tables: where rank rows lie.
        segments: which tokens belong to which adapter; rows of base tokens are not touched.
        first_module: module of the first slice.
        slice_widths: out_features of each slice, at most MAX_SLICES.
    """
    expand = lora_expand_triton if dispatch.use_triton(y) else lora_expand_reference
    expand(y, s, tables, segments, first_module, slice_widths)


def lora_expand_reference(
    y: torch.Tensor,
    s: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    """Plain-torch twin of `lora_expand`."""
    for slot, start, stop in segments.spans:
        offset = 0
        for part, width in enumerate(slice_widths):
            b = tables.matrix_b(slot, first_module + part, width)
            if len(b):
                low = s[:, part, start:stop, : len(b)].sum(dim=0)
                target = y[start:stop, offset : offset + width]
                target.copy_(target.float() + low @ b.float())
            offset += width


def lora_expand_triton(
    y: torch.Tensor,
    s: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    """Triton launcher of `lora_expand`."""
    assert len(slice_widths) == s.shape[1] <= MAX_SLICES
    constants = launch_constants(y.shape[0]).expand
    tiles = segments.tile_slot.numel()
    if tiles == 0:
        return
    widths = slice_widths + (0,) * (MAX_SLICES - len(slice_widths))
    blocks = sum(-(-width // constants.block_out) for width in widths)
    _lora_expand_kernel[(tiles, blocks)](
        y,
        s,
        tables.arena,
        tables.b_rows,
        tables.index,
        segments.tile_slot,
        segments.tile_start,
        segments.tile_end,
        segments.num_tiles,
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
        TILE=TILE_TOKENS,
        BLOCK_RANK=constants.block_rank,
        BLOCK_OUT=constants.block_out,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(tables.arena.dtype),
        num_warps=constants.num_warps,
        num_stages=constants.num_stages,
    )


@triton.jit(do_not_specialize=["first_module", "s_split_stride", "s_slice_stride"])
def _lora_expand_kernel(
    y_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    tile_slot_ptr,
    tile_start_ptr,
    tile_end_ptr,
    num_tiles_ptr,
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
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    tile = tl.program_id(0)
    if tile >= tl.load(num_tiles_ptr):
        return
    # Slices have unequal widths, so their blocks are numbered through instead of taking the widest for all.
    block = tl.program_id(1)
    blocks_0 = tl.cdiv(width_0, BLOCK_OUT)
    blocks_1 = tl.cdiv(width_1, BLOCK_OUT)
    past_0 = block >= blocks_0
    past_1 = block >= blocks_0 + blocks_1
    part = past_0.to(tl.int32) + past_1.to(tl.int32)
    width = tl.where(past_1, width_2, tl.where(past_0, width_1, width_0))
    offset = tl.where(past_0, width_0, 0) + tl.where(past_1, width_1, 0)
    block -= tl.where(past_0, blocks_0, 0) + tl.where(past_1, blocks_1, 0)
    entry = index_ptr + (tl.load(tile_slot_ptr + tile) * num_modules + first_module + part) * 2
    first = tl.load(entry)
    rank = tl.load(entry + 1)
    if rank == 0:
        return

    token = tl.load(tile_start_ptr + tile) + tl.arange(0, TILE)
    live = token < tl.load(tile_end_ptr + tile)
    token = token.to(tl.int64)
    column = block * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = column < width
    s_at = s_ptr + part.to(tl.int64) * s_slice_stride + token * s_token_stride
    acc = tl.zeros([TILE, BLOCK_OUT], dtype=tl.float32)
    for rank_start in range(0, rank, BLOCK_RANK):
        row = rank_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        low = tl.zeros([TILE, BLOCK_RANK], dtype=tl.float32)
        split_at = s_at
        for _ in range(SPLITS):
            low += tl.load(
                split_at[:, None] + row[None, :],
                mask=live[:, None] & used[None, :],
                other=0.0,
            )
            split_at += s_split_stride
        b_row = tl.load(b_rows_ptr + first + row, mask=used, other=0)
        # Tells the compiler what the offsets are multiples of, and so how wide its loads may be.
        b_at = arena_ptr + (b_row // ALIGNMENT * ALIGNMENT)[:, None] + column[None, :]
        b = tl.load(b_at, mask=used[:, None] & inside[None, :], other=0.0)
        acc = tl.dot(low.to(b.dtype).to(DOT), b.to(DOT), acc, input_precision="ieee")
    y_at = y_ptr + (token * y_stride)[:, None] + (offset + column)[None, :]
    keep = live[:, None] & inside[None, :]
    y = tl.load(y_at, mask=keep, other=0.0).to(tl.float32)
    tl.store(y_at, (y + acc).to(y_ptr.dtype.element_ty), mask=keep)
