"""Owns the geometry of the arena: blocks of KV, and pages that hold whole blocks and whole rank rows."""

from collections.abc import Sequence

import torch

from loraplex.engine.model_config import Module

BLOCK_SIZE = 16  # tokens
# One block of an 8B Llama in 16 bits. Smaller pages would waste less of an adapter's last one, larger ones take fewer
# copies and cut fewer matrices in two.
PAGE_BYTES = 2 * 1024 * 1024


def block_elements(modules: Sequence[Module]) -> int:
    """Elements of one KV block over all layers of the model with these modules."""
    widths = (m.out_features for m in modules if m.name.endswith((".k_proj", ".v_proj")))
    return BLOCK_SIZE * sum(widths)


def page_elements(dtype: torch.dtype, modules: Sequence[Module]) -> int:
    """Elements of a page: the smallest number of whole KV blocks that is at least 2 MiB and holds the longest rank row
    of the model (usually the vocabulary)."""
    block = block_elements(modules)
    longest_row = max(max(m.in_features, m.out_features) for m in modules)
    return -(-max(PAGE_BYTES // dtype.itemsize, longest_row) // block) * block
