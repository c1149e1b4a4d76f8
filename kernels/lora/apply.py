"""Owns the operation a model calls at each of its projections: shrink, then expand."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.lora.apply_reference import lora_apply_reference
from loraplex.kernels.lora.expand import lora_expand_triton
from loraplex.kernels.lora.shrink import lora_shrink_triton
from loraplex.kernels.lora.tables import LoRASegments, LoRATables


def lora_apply(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    """y += x Aᵀ B in place, each token with its adapter, for all slices of a fused projection.

    Args:
        y: [tokens, sum of slice_widths], the projection's output; last dimension contiguous.
        x: [tokens, in_features], its input.
        tables: where rank rows lie.
        segments: which tokens belong to which adapter; rows of base tokens are not touched.
        first_module: module of the first slice; the others follow.
        slice_widths: out_features of each slice, at most 3.
    """
    if dispatch.use_triton(y):
        s = lora_shrink_triton(x, tables, segments, first_module, len(slice_widths))
        lora_expand_triton(y, s, tables, segments, first_module, slice_widths)
    else:
        lora_apply_reference(y, x, tables, segments, first_module, slice_widths)
