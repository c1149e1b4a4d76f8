"""Owns SiLU·mul, the activation between the two halves of a fused gate_up projection."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import power_of_two, start_early, tl, triton
from loraplex.kernels.lora.apply import LoRADelta
from loraplex.kernels.lora.one_token import expand_token, rank_rows
from loraplex.kernels.lora.tables import ROW_ALIGNMENT
from loraplex.kernels.lora.tuning import (
    DECODE_RANK,
    MOST_DECODE_TOKENS,
    decode_constants,
)
from loraplex.kernels.prefill_silu import prefill_silu_mul, silu_product

# Elements per program without adapters. Untuned.
_BLOCK = 1024


def silu_mul(x: torch.Tensor, delta: LoRADelta | None = None) -> torch.Tensor:
    """silu(first half) × second half; silu is rounded to x's dtype before the product, as separate layers do.

    Args:
        x: [tokens, 2 × size], last dimension contiguous.
        delta: what adapters still add to x, whose slices are the halves; x itself is not changed.

    Returns:
        [tokens, size], contiguous, x's dtype.
    """
    if dispatch.use_triton(x):
        return silu_mul_triton(x, delta)
    assert delta is None
    return silu_mul_reference(x)


def silu_mul_reference(x: torch.Tensor) -> torch.Tensor:
    """Plain-torch twin of `silu_mul`."""
    gate, up = x.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


def silu_mul_triton(x: torch.Tensor, delta: LoRADelta | None = None) -> torch.Tensor:
    """Triton launcher of `silu_mul`."""
    tokens, size = x.shape[0], x.shape[1] // 2
    out = torch.empty((tokens, size), dtype=x.dtype, device=x.device)
    if tokens == 0:
        return out
    if delta is None:
        grid = (tokens, -(-size // _BLOCK))
        early = dispatch.early_launch(x)
        _silu_mul_kernel[grid](
            x, out, size, x.stride(0), BLOCK=_BLOCK, EARLY=early, launch_pdl=early
        )
        return out
    tables = delta.tables
    if tokens <= MOST_DECODE_TOKENS:
        launch = decode_constants(tokens).silu
        early = dispatch.early_launch(x)
        _decode_silu_mul_kernel[(tokens, -(-size // launch.block))](
            x,
            out,
            delta.s,
            tables.arena,
            tables.b_rows,
            tables.index,
            delta.segments.token_slots,
            tables.index.shape[1],
            delta.first_module,
            size,
            x.stride(0),
            delta.s.stride(0),
            delta.s.stride(1),
            delta.s.stride(2),
            SPLITS=delta.s.shape[0],
            SPLITS_BLOCK=power_of_two(delta.s.shape[0]),
            BLOCK_RANK=DECODE_RANK,
            BLOCK_OUT=launch.block,
            ALIGNMENT=ROW_ALIGNMENT if tables.aligned else 1,
            EARLY=early,
            num_warps=launch.num_warps,
            launch_pdl=early,
        )
        return out
    prefill_silu_mul(x, out, delta)
    return out


@triton.jit
def _silu_mul_kernel(x_ptr, out_ptr, size, x_stride, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    start_early(EARLY)
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate_at = x_ptr + token * x_stride + column
    gate = tl.load(gate_at, mask=inside, other=0.0)
    up = tl.load(gate_at + size, mask=inside, other=0.0)
    tl.store(out_ptr + token * size + column, silu_product(gate, up), mask=inside)


@triton.jit(do_not_specialize=["first_module", "s_split_stride", "s_slice_stride"])
def _decode_silu_mul_kernel(
    x_ptr,
    out_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
    num_modules,
    first_module,
    size,
    x_stride,
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
    token = tl.program_id(0)
    adapter = tl.load(token_slots_ptr + token)
    at = token.to(tl.int64)
    column = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = column < size
    gate_at = x_ptr + at * x_stride + column
    gate = tl.load(gate_at, mask=inside, other=0.0)
    up = tl.load(gate_at + size, mask=inside, other=0.0)
    s_at = s_ptr + at * s_token_stride
    first, rank, base = rank_rows(index_ptr, adapter, num_modules, first_module, 1)
    added = expand_token(
        s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base, size, column, inside,
        SPLITS, SPLITS_BLOCK, BLOCK_RANK, ALIGNMENT,
    )  # fmt: skip
    gate = (gate.to(tl.float32) + added).to(gate.dtype)
    first, rank, base = rank_rows(index_ptr, adapter, num_modules, first_module + 1, 1)
    added = expand_token(
        s_at + s_slice_stride, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base, size,
        column, inside, SPLITS, SPLITS_BLOCK, BLOCK_RANK, ALIGNMENT,
    )  # fmt: skip
    up = (up.to(tl.float32) + added).to(up.dtype)
    tl.store(out_ptr + at * size + column, silu_product(gate, up), mask=inside)
