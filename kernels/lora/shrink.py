"""Owns the LoRA shrink: s = x Aᵀ, each token with its adapter's A, for all slices of a fused projection at once."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import start_early, tl, triton
from loraplex.kernels.lora.one_token import rank_rows, row_offsets
from loraplex.kernels.lora.partial_sums import partial_sums
from loraplex.kernels.lora.prefill_shrink import prefill_shrink
from loraplex.kernels.lora.run_shrink import run_shrink
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import (
    DECODE_RANK,
    MOST_DECODE_TOKENS,
    RunShrink,
    decode_constants,
)


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
    *,
    beside: bool = False,
) -> torch.Tensor:
    """Triton launcher of `lora_shrink`; `beside`: on a stream of its own, after another stream's kernel."""
    tokens, in_features = x.shape
    columns = rank_columns(segments)
    if tokens > MOST_DECODE_TOKENS:
        return prefill_shrink(x, tables, segments, first_module, num_slices, columns)
    launch = decode_constants(tokens).shrink
    if isinstance(launch, RunShrink):
        return run_shrink(
            x, tables, segments, first_module, num_slices, columns, launch, beside=beside
        )
    s, split_size = partial_sums(x, num_slices, columns, launch.block, launch.splits)
    if tokens:
        early = dispatch.early_launch(x) and not beside
        _decode_shrink_kernel[(tokens, num_slices, len(s))](
            x,
            tables.arena,
            tables.a_rows,
            tables.index,
            segments.token_slots,
            s,
            in_features,
            tables.index.shape[1],
            first_module,
            split_size,
            x.stride(0),
            s.stride(0),
            s.stride(1),
            s.stride(2),
            BLOCK_RANK=DECODE_RANK,
            BLOCK_IN=launch.block,
            ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
            EARLY=early,
            num_warps=launch.num_warps,
            launch_pdl=early,
        )
    return s


@triton.jit(do_not_specialize=["first_module", "s_split_stride", "s_slice_stride"])
def _decode_shrink_kernel(
    x_ptr,
    arena_ptr,
    a_rows_ptr,
    index_ptr,
    token_slots_ptr,
    s_ptr,
    in_features,
    num_modules,
    first_module,
    split_size,
    x_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    BLOCK_RANK: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    token = tl.program_id(0)
    adapter = tl.load(token_slots_ptr + token)
    part = tl.program_id(1)
    split = tl.program_id(2)
    first, rank, base = rank_rows(index_ptr, adapter, num_modules, first_module + part, 0)
    at = token.to(tl.int64)
    s_at = s_ptr + split.to(tl.int64) * s_split_stride + part.to(tl.int64) * s_slice_stride
    in_start = split * split_size
    in_stop = tl.minimum(in_start + split_size, in_features)
    for row_start in range(0, rank, BLOCK_RANK):
        row = row_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        offset = row_offsets(a_rows_ptr, first, rank, base, row, in_features, ALIGNMENT)
        acc = tl.zeros([BLOCK_RANK], dtype=tl.float32)
        for block_start in range(in_start, in_stop, BLOCK_IN):
            column = block_start + tl.arange(0, BLOCK_IN)
            inside = column < in_stop
            a_at = arena_ptr + offset[:, None] + column[None, :]
            a = tl.load(a_at, mask=used[:, None] & inside[None, :], other=0.0)
            x = tl.load(x_ptr + at * x_stride + column, mask=inside, other=0.0)
            acc += tl.sum(a.to(tl.float32) * x.to(tl.float32)[None, :], axis=1)
        tl.store(s_at + at * s_token_stride + row, acc, mask=used)
