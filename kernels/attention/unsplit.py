"""Owns attention of many sequences with a single query: one program per (sequence, KV head), keys not split.

With this many sequences the programs fill the GPU by themselves, and nothing has to be planned or summed.
"""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.attention.keys import attend_single_query, write_heads
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.language import dot_dtype, power_of_two, start_early, tl, triton

# Keys per iteration. The same for all batches: it decides the order of summation, and neighbours must not. One H200,
# 128 sequences of 345 tokens: 53 us per layer, of 512 tokens 69, with split kernels 54 and 71.
_KEYS = 64
_KEYS_FLOAT32 = 32


def unsplit_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    out: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int,
    soft_cap: float,
) -> None:
    """Write to `out` the attention of every sequence of `meta` that has one query; other arguments as in
    `paged_attention`."""
    query_heads, head_dim = q.shape[1:]
    block_size, kv_heads = k_cache.shape[1:3]
    group = query_heads // kv_heads
    early = dispatch.early_launch(q)
    _unsplit_kernel[(kv_heads, len(meta.query_lens))](
        q,
        k_cache,
        v_cache,
        out,
        meta.query_starts,
        meta.seq_lens,
        meta.block_tables,
        scale,
        soft_cap,
        window,
        q.stride(0),
        q.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        out.stride(0),
        out.stride(1),
        meta.block_tables.stride(0),
        GROUP=group,
        ROWS=max(16, power_of_two(group)),
        BLOCK=block_size,
        HAS_WINDOW=window > 0,
        HAS_SOFT_CAP=soft_cap > 0,
        KEYS=_KEYS_FLOAT32 if q.dtype is torch.float32 else _KEYS,
        HEAD=head_dim,
        HEAD_DIM=max(16, power_of_two(head_dim)),
        DOT=dot_dtype(q.dtype),
        EARLY=early,
        num_warps=4,
        num_stages=2,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["block_tables_stride"])
def _unsplit_kernel(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    out_ptr,
    query_starts_ptr,
    seq_lens_ptr,
    block_tables_ptr,
    scale,
    soft_cap,
    window,
    q_token_stride,
    q_head_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    out_token_stride,
    out_head_stride,
    block_tables_stride,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DOT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    kv_head = tl.program_id(0)
    sequence = tl.program_id(1)
    first_token = tl.load(query_starts_ptr + sequence)
    if tl.load(query_starts_ptr + sequence + 1) - first_token != 1:
        return
    token = first_token.to(tl.int64)
    kv_len = tl.load(seq_lens_ptr + sequence)
    seen_from = kv_len * 0
    if HAS_WINDOW:
        seen_from = tl.maximum(kv_len - window, 0)
    acc, _, total = attend_single_query(
        q_ptr + token * q_token_stride + kv_head * GROUP * q_head_stride,
        q_head_stride,
        seen_from // KEYS * KEYS,
        kv_len,
        seen_from,
        block_tables_ptr + sequence.to(tl.int64) * block_tables_stride,
        k_cache_ptr + kv_head * cache_head_stride,
        v_cache_ptr + kv_head * cache_head_stride,
        cache_block_stride,
        cache_offset_stride,
        scale,
        soft_cap,
        GROUP,
        ROWS,
        HAS_SOFT_CAP,
        BLOCK,
        KEYS,
        HEAD,
        HEAD_DIM,
        DOT,
    )
    out_at = out_ptr + token * out_token_stride + kv_head * GROUP * out_head_stride
    write_heads(out_at, out_head_stride, acc, total, GROUP, HEAD)
