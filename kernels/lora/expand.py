"""Owns the LoRA expand: y += s B, each token with its adapter's B, for all slices of a fused projection at once."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import power_of_two, start_early, tl, triton
from loraplex.kernels.lora.one_token import expand_token, rank_rows
from loraplex.kernels.lora.prefill_expand import prefill_expand
from loraplex.kernels.lora.slices import MAX_SLICES, slice_of
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import (
    DECODE_RANK,
    MOST_DECODE_TOKENS,
    decode_constants,
)


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
    tokens = y.shape[0]
    if tokens == 0:
        return
    widths = slice_widths + (0,) * (MAX_SLICES - len(slice_widths))
    if tokens <= MOST_DECODE_TOKENS:
        launch = decode_constants(tokens).expand
        early = dispatch.early_launch(y)
        blocks = sum(-(-width // launch.block) for width in widths)
        _decode_expand_kernel[(tokens, blocks)](
            y,
            s,
            tables.arena,
            tables.b_rows,
            tables.index,
            segments.token_slots,
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
            SPLITS_BLOCK=power_of_two(s.shape[0]),
            BLOCK_RANK=DECODE_RANK,
            BLOCK_OUT=launch.block,
            ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
            EARLY=early,
            num_warps=launch.num_warps,
            launch_pdl=early,
        )
        return
    prefill_expand(y, s, tables, segments, first_module, widths)


@triton.jit(do_not_specialize=["first_module", "s_split_stride", "s_slice_stride"])
def _decode_expand_kernel(
    y_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
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
    SPLITS_BLOCK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    part, width, offset, block = slice_of(tl.program_id(1), width_0, width_1, width_2, BLOCK_OUT)
    column = block * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = column < width
    token = tl.program_id(0)
    adapter = tl.load(token_slots_ptr + token)
    first, rank, base = rank_rows(index_ptr, adapter, num_modules, first_module + part, 1)
    at = token.to(tl.int64)
    y_at = y_ptr + at * y_stride + offset + column
    keep = column < tl.where(rank > 0, width, 0)
    y = tl.load(y_at, mask=keep, other=0.0)
    added = expand_token(
        s_ptr + part.to(tl.int64) * s_slice_stride + at * s_token_stride,
        s_split_stride,
        arena_ptr,
        b_rows_ptr,
        first,
        rank,
        base,
        width,
        column,
        inside,
        SPLITS,
        SPLITS_BLOCK,
        BLOCK_RANK,
        ALIGNMENT,
    )
    tl.store(y_at, (y.to(tl.float32) + added).to(y_ptr.dtype.element_ty), mask=keep)
