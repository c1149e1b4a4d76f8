"""Owns the LoRA shrink: s = x Aᵀ, each token with its adapter's A, for all slices of a fused projection at once."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import dot_dtype, tl, triton
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, TILE_TOKENS, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import launch_constants


def lora_shrink(
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    num_slices: int,
) -> torch.Tensor:
    """Project tokens down to their adapter's rank.

    Args:
        x: [tokens, in_features], the arena's dtype, last dimension contiguous.
        tables: where rank rows lie.
        segments: which tokens belong to which adapter.
        first_module: module of the first slice; the others follow (q, k, v or gate, up).
        num_slices: modules that share x.

    Returns:
        [splits, slices, tokens, R] float32 whose sum over the first dimension is x Aᵀ. The number of splits depends on
        the shapes alone. Rows of base tokens and columns past a module's rank are left as they were allocated.
    """
    shrink = lora_shrink_triton if dispatch.use_triton(x) else lora_shrink_reference
    return shrink(x, tables, segments, first_module, num_slices)


def rank_columns(segments: LoRASegments) -> int:
    """R: the largest rank of the batch, rounded up to what a tensor-core dot takes."""
    return max(16, -(-segments.max_rank // 16) * 16)


def lora_shrink_reference(
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    num_slices: int,
) -> torch.Tensor:
    """Plain-torch twin of `lora_shrink`, with one split."""
    tokens, in_features = x.shape
    columns = rank_columns(segments)
    s = torch.empty((1, num_slices, tokens, columns), dtype=torch.float32, device=x.device)
    for slot, start, stop in segments.spans:
        for part in range(num_slices):
            a = tables.matrix_a(slot, first_module + part, in_features)
            s[0, part, start:stop, : len(a)] = x[start:stop].float() @ a.float().T
    return s


def lora_shrink_triton(
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    num_slices: int,
) -> torch.Tensor:
    """Triton launcher of `lora_shrink`."""
    tokens, in_features = x.shape
    constants = launch_constants(tokens).shrink
    splits = min(constants.splits, -(-in_features // constants.block_in))
    blocks_per_split = -(-in_features // (splits * constants.block_in))
    columns = rank_columns(segments)
    s = torch.empty((splits, num_slices, tokens, columns), dtype=torch.float32, device=x.device)
    tiles = segments.tile_slot.numel()
    if tiles == 0:
        return s
    _lora_shrink_kernel[(tiles, num_slices, splits)](
        x,
        tables.arena,
        tables.a_rows,
        tables.index,
        segments.tile_slot,
        segments.tile_start,
        segments.tile_end,
        segments.num_tiles,
        s,
        in_features,
        blocks_per_split * constants.block_in,
        tables.index.shape[1],
        first_module,
        x.stride(0),
        s.stride(0),
        s.stride(1),
        s.stride(2),
        TILE=TILE_TOKENS,
        BLOCK_RANK=constants.block_rank,
        BLOCK_IN=constants.block_in,
        ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
        DOT=dot_dtype(x.dtype),
        num_warps=constants.num_warps,
        num_stages=constants.num_stages,
    )
    return s


@triton.jit(do_not_specialize=["first_module", "s_split_stride", "s_slice_stride"])
def _lora_shrink_kernel(
    x_ptr,
    arena_ptr,
    a_rows_ptr,
    index_ptr,
    tile_slot_ptr,
    tile_start_ptr,
    tile_end_ptr,
    num_tiles_ptr,
    s_ptr,
    in_features,
    split_size,
    num_modules,
    first_module,
    x_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    TILE: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    tile = tl.program_id(0)
    if tile >= tl.load(num_tiles_ptr):
        return
    part = tl.program_id(1)
    split = tl.program_id(2)
    entry = index_ptr + (tl.load(tile_slot_ptr + tile) * num_modules + first_module + part) * 2
    first = tl.load(entry)
    rank = tl.load(entry + 1)

    token = tl.load(tile_start_ptr + tile) + tl.arange(0, TILE)
    live = token < tl.load(tile_end_ptr + tile)
    token = token.to(tl.int64)
    x_at = x_ptr + token * x_stride
    s_at = s_ptr + split.to(tl.int64) * s_split_stride + part.to(tl.int64) * s_slice_stride
    in_start = split * split_size
    in_stop = tl.minimum(in_start + split_size, in_features)
    for rank_start in range(0, rank, BLOCK_RANK):
        row = rank_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        a_row = tl.load(a_rows_ptr + first + row, mask=used, other=0)
        # Tells the compiler what the offsets are multiples of, and so how wide its loads may be.
        a_at = arena_ptr + a_row // ALIGNMENT * ALIGNMENT
        acc = _project(x_at, a_at, live, used, in_start, in_stop, BLOCK_IN, DOT)
        tl.store(
            s_at + token[:, None] * s_token_stride + row[None, :],
            acc,
            mask=live[:, None] & used[None, :],
        )


@triton.jit
def _project(x_at, a_at, live, used, in_start, in_stop, BLOCK_IN: tl.constexpr, DOT: tl.constexpr):
    """Rows x_at [M] times rows a_at [R] over elements in_start to in_stop: [M, R] float32."""
    acc = tl.zeros([x_at.shape[0], a_at.shape[0]], dtype=tl.float32)
    for block_start in range(in_start, in_stop, BLOCK_IN):
        column = block_start + tl.arange(0, BLOCK_IN)
        inside = column < in_stop
        x = tl.load(
            x_at[:, None] + column[None, :], mask=live[:, None] & inside[None, :], other=0.0
        )
        a = tl.load(
            a_at[None, :] + column[:, None], mask=used[None, :] & inside[:, None], other=0.0
        )
        acc = tl.dot(x.to(DOT), a.to(DOT), acc, input_precision="ieee")
    return acc
