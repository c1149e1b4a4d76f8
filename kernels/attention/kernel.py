"""Owns which of the Triton kernels attends which sequences of a batch: those with one query, with a few, with many."""

import torch

from loraplex.kernels.attention.decode import decode_attention
from loraplex.kernels.attention.gathered import gathered_attention, gathered_launch
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.attention.prefill import prefill_attention, prefill_launch
from loraplex.kernels.attention.tiles import can_gather, prefill_plan
from loraplex.kernels.attention.unsplit import unsplit_attention
from loraplex.kernels.language import power_of_two

# Batches of more sequences are attended without splitting their keys: see unsplit.py.
MOST_SPLIT_SEQUENCES = 48


def paged_attention_triton(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Triton launcher of `paged_attention`."""
    tokens, query_heads, head_dim = q.shape
    if out is None:
        out = torch.empty((tokens, query_heads, head_dim), dtype=q.dtype, device=q.device)
    if tokens == 0:
        return out
    assert k_cache.stride() == v_cache.stride()
    attend_decodes = (
        unsplit_attention if len(meta.query_lens) > MOST_SPLIT_SEQUENCES else decode_attention
    )
    if max(meta.query_lens) == 1:
        attend_decodes(q, k_cache, v_cache, out, meta, scale, window, soft_cap)
        return out
    group = query_heads // k_cache.shape[2]
    direct, gathered = prefill_launch(q.dtype, head_dim), gathered_launch(head_dim)
    plan = prefill_plan(
        meta,
        gather=can_gather(q, window),
        direct_tokens=max(power_of_two(group), direct.rows) // group,
        gathered_tokens=max(power_of_two(group), gathered.rows) // group,
        keys=gathered.keys,
        block_size=k_cache.shape[1],
    )
    if plan.decodes:
        attend_decodes(q, k_cache, v_cache, out, meta, scale, window, soft_cap)
    if plan.direct is not None:
        prefill_attention(
            q, k_cache, v_cache, out, meta, plan.direct, scale, window, soft_cap, direct
        )
    if plan.gathered is not None and plan.blocks is not None:
        gathered_attention(
            q, k_cache, v_cache, out, meta, plan.gathered, plan.blocks, scale, soft_cap, gathered
        )
    return out
