"""Owns the operations a model calls at its projections: base product, shrink and expand."""

from typing import NamedTuple

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.linear import linear
from loraplex.kernels.lora.apply_reference import lora_apply_reference
from loraplex.kernels.lora.expand import lora_expand_triton
from loraplex.kernels.lora.shrink import lora_shrink_triton
from loraplex.kernels.lora.tables import LoRASegments, LoRATables


class LoRADelta(NamedTuple):
    """The adapters' part of a projection that is still to be added: s B, with s from a shrink."""

    s: torch.Tensor
    tables: LoRATables
    segments: LoRASegments
    first_module: int


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


def lora_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
    side: "torch.cuda.Stream | None" = None,
) -> torch.Tensor:
    """A projection with its adapters: x Wᵀ + bias + x Aᵀ B, [tokens, sum of slice_widths].

    Args:
        x: [tokens, in_features].
        weight, bias: of the base model, [sum of slice_widths, in_features] and [sum of slice_widths] or None.
        side: a stream on which the shrink runs beside the base product; None runs both in turn. The result is the
            same. Memory of the intermediate is safe: all use of the side stream begins by waiting for the main one.
        tables, segments, first_module, slice_widths: as for `lora_apply`.
    """
    y, delta = lora_linear_deferred(
        x, weight, bias, tables, segments, first_module, slice_widths, side
    )
    if delta is not None:
        lora_expand_triton(y, delta.s, tables, segments, first_module, slice_widths)
    return y


def lora_linear_deferred(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
    side: "torch.cuda.Stream | None" = None,
) -> tuple[torch.Tensor, LoRADelta | None]:
    """`lora_linear` without its last step, for callers whose next kernel reads y anyway and adds the delta there; None
    where it is in y already."""
    if not dispatch.use_triton(x):
        y = linear(x, weight, bias)
        lora_apply_reference(y, x, tables, segments, first_module, slice_widths)
        return y, None
    if side is None:
        y = linear(x, weight, bias)
        s = lora_shrink_triton(x, tables, segments, first_module, len(slice_widths))
    else:
        main = torch.cuda.current_stream(x.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            s = lora_shrink_triton(
                x, tables, segments, first_module, len(slice_widths), beside=True
            )
        y = linear(x, weight, bias)
        main.wait_stream(side)
    return y, LoRADelta(s, tables, segments, first_module)
