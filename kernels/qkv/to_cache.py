"""Owns what happens to a fused qkv projection before attention: adapters, the norm of heads, rotary position embedding
and the write of keys and values into the paged cache, in one kernel."""

from typing import NamedTuple

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.kv_write import kv_write_reference
from loraplex.kernels.language import dot_dtype, power_of_two
from loraplex.kernels.lora.apply import LoRADelta
from loraplex.kernels.lora.tables import ROW_ALIGNMENT
from loraplex.kernels.lora.tuning import (
    DECODE_RANK,
    MOST_DECODE_TOKENS,
    PREFILL_QKV,
    decode_constants,
)
from loraplex.kernels.norm import rms_norm_reference
from loraplex.kernels.qkv.decode import decode_kernel
from loraplex.kernels.qkv.prefill import prefill_kernel
from loraplex.kernels.rope import apply_rope_reference


class HeadNorm(NamedTuple):
    """RMSNorm of every query and key head: weights [head dim] and epsilon."""

    q: torch.Tensor
    k: torch.Tensor
    eps: float


def qkv_to_cache(
    qkv: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    kv_slots: torch.Tensor,
    norm: HeadNorm | None = None,
    delta: LoRADelta | None = None,
) -> torch.Tensor:
    """Add adapters, normalise and rotate queries and keys, and write keys and values to the cache.

    Args:
        qkv: [tokens, (query heads + 2 × KV heads) × head dim], contiguous; its queries are overwritten.
        k_cache, v_cache: [blocks, block size, KV heads, head dim], last dimension contiguous, equal strides.
        cos, sin: [positions, R / 2] float32; the first R elements of a head rotate, element i with i + R/2.
        positions: [tokens] int64.
        kv_slots: [tokens] int64, block × block size + offset; -1 leaves the cache alone.
        norm: of heads, for models that have it.
        delta: what adapters still add to qkv.

    Returns:
        The queries, [tokens, query heads, head dim], a view of qkv.
    """
    if dispatch.use_triton(qkv):
        return qkv_to_cache_triton(
            qkv, k_cache, v_cache, cos, sin, positions, kv_slots, norm, delta
        )
    assert delta is None
    return qkv_to_cache_reference(qkv, k_cache, v_cache, cos, sin, positions, kv_slots, norm)


def qkv_to_cache_reference(
    qkv: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    kv_slots: torch.Tensor,
    norm: HeadNorm | None = None,
) -> torch.Tensor:
    """Plain-torch twin of `qkv_to_cache` without a delta."""
    q, k, v = _heads(qkv, k_cache)
    if norm is not None:
        q.copy_(rms_norm_reference(q, norm.q, norm.eps))
        k.copy_(rms_norm_reference(k, norm.k, norm.eps))
    apply_rope_reference(q, k, cos, sin, positions)
    kv_write_reference(k, v, k_cache, v_cache, kv_slots)
    return q


def qkv_to_cache_triton(
    qkv: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    kv_slots: torch.Tensor,
    norm: HeadNorm | None = None,
    delta: LoRADelta | None = None,
) -> torch.Tensor:
    """Triton launcher of `qkv_to_cache`."""
    q, _, _ = _heads(qkv, k_cache)
    tokens, q_heads, head_dim = q.shape
    kv_heads = k_cache.shape[2]
    if tokens == 0:
        return q
    assert k_cache.stride() == v_cache.stride()
    half = cos.shape[1]
    # Without a delta or a norm their arguments are not read; any tensor will do.
    tables = None if delta is None else delta.tables
    arguments = (
        qkv,
        k_cache,
        v_cache,
        cos,
        sin,
        positions,
        kv_slots,
        qkv if norm is None else norm.q,
        qkv if norm is None else norm.k,
        qkv if delta is None else delta.s,
        qkv if tables is None else tables.arena,
        positions if tables is None else tables.b_rows,
        positions if tables is None else tables.index,
        positions if delta is None else delta.segments.token_slots,
        tokens,
        0 if tables is None else tables.index.shape[1],
        0 if delta is None else delta.first_module,
        q_heads,
        kv_heads,
        head_dim,
        half,
        k_cache.shape[1],
        0.0 if norm is None else norm.eps,
        qkv.stride(0),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        0 if delta is None else delta.s.stride(0),
        0 if delta is None else delta.s.stride(1),
        0 if delta is None else delta.s.stride(2),
    )
    alignment = ROW_ALIGNMENT if tables is not None and tables.aligned else 1
    rest = 0 if head_dim == 2 * half else max(16, power_of_two(head_dim - 2 * half))
    splits = 1 if delta is None else delta.s.shape[0]
    if tokens <= MOST_DECODE_TOKENS:
        launch = decode_constants(tokens).qkv
        early = dispatch.early_launch(qkv)
        # A norm sums over a head; with and without adapters that must happen in the same order.
        per_program, warps = launch if delta is None and norm is None else (1, 1)
        groups = -(-q_heads // per_program) + 2 * -(-kv_heads // per_program)
        decode_kernel[(tokens, groups)](
            *arguments,
            HAS_NORM=norm is not None,
            HAS_LORA=delta is not None,
            SPLITS=splits,
            SPLITS_BLOCK=power_of_two(splits),
            HEADS=per_program,
            HALF=power_of_two(half),
            REST=rest,
            BLOCK_RANK=DECODE_RANK,
            ALIGNMENT=alignment,
            EARLY=early,
            num_warps=warps,
            launch_pdl=early,
        )
        return q
    tiles = PREFILL_QKV
    groups = -(-q_heads // tiles.blocks) + 2 * -(-kv_heads // tiles.blocks)
    ways = 1 if delta is None else delta.segments.ways
    prefill_kernel[(-(-tokens // tiles.tile), groups, ways)](
        *arguments,
        HAS_NORM=norm is not None,
        HAS_LORA=delta is not None,
        SPLITS=splits,
        TILE=tiles.tile,
        HALF=max(16, power_of_two(half)),
        REST=rest,
        HEADS=tiles.blocks,
        WAYS=ways,
        BLOCK_RANK=tiles.block_rank,
        ALIGNMENT=alignment,
        DOT=dot_dtype(qkv.dtype),
        num_warps=tiles.num_warps,
    )
    return q


def _heads(qkv: torch.Tensor, k_cache: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of queries, keys and values, each [tokens, heads, head dim]."""
    kv_heads, head_dim = k_cache.shape[2:]
    heads = qkv.view(qkv.shape[0], -1, head_dim)
    q, k, v = heads.split((heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads), dim=1)
    return q, k, v
