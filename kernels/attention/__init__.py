"""Attention over a paged KV cache: chunked prefill and decode in one call."""

from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.attention.paged import paged_attention

__all__ = ["AttentionMeta", "paged_attention"]
