"""Owns the public attention operation."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.attention.kernel import paged_attention_triton
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.attention.reference import paged_attention_reference


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention of each sequence's queries over its cached keys and values.

    Args:
        q: [tokens, query heads, head dim], last dimension contiguous.
        k_cache, v_cache: [blocks, block size, KV heads, head dim], last dimension contiguous; q's dtype.
        meta: the sequences of the batch.
        scale: factor of the scores.
        window: 0, or how many tokens a query sees, itself included.
        soft_cap: 0, or c in scores = c × tanh(scores / c).
        out: where the result goes, like q but contiguous; None for new memory.

    Returns:
        [tokens, query heads, head dim], contiguous, q's dtype; rows of tokens past the last sequence are left as they
        were. What lies in the cache outside a sequence's tokens is never part of its result, NaN included.
    """
    attend = paged_attention_triton if dispatch.use_triton(q) else paged_attention_reference
    return attend(q, k_cache, v_cache, meta, scale, window, soft_cap, out)
