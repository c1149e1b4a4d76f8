"""Owns LoRA inputs of one projection as kernels take them: random adapters in an arena, tokens that use them."""

from dataclasses import dataclass

import torch
from replay import copies_to_rotate

from loraplex.kernels.lora.tables import LoRASegments, LoRATables


@dataclass(frozen=True, slots=True)
class LoRASite:
    """A projection for one batch.

    Attributes:
        tables: of copies × adapters slots with one module per slice.
        segments: for each copy of the adapters, the same tokens.
        bytes: of the distinct adapters of one batch.
    """

    tables: LoRATables
    segments: tuple[LoRASegments, ...]
    bytes: int


def lora_site(
    in_features: int,
    widths: tuple[int, ...],
    tokens: int,
    ranks: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> LoRASite:
    """Adapters of the given ranks, each with an equal share of `tokens`, copied so often that the L2 cache is cold."""
    row_elements = in_features * len(widths) + sum(widths)
    per_copy = sum(ranks) * row_elements
    copies = copies_to_rotate(per_copy * dtype.itemsize)
    a_rows: list[int] = []
    b_rows: list[int] = []
    index: list[list[tuple[int, int, int, int]]] = []
    at = 0
    for rank in ranks * copies:
        modules = []
        for width in widths:
            modules.append((len(a_rows), rank, at, at + rank * in_features))
            a_rows += range(at, at + rank * in_features, in_features)
            at += rank * in_features
            b_rows += range(at, at + rank * width, width)
            at += rank * width
        index.append(modules)
    arena = torch.empty(at, dtype=dtype, device=device).normal_(0, 0.01)
    tables = LoRATables(
        arena,
        torch.tensor(a_rows, device=device),
        torch.tensor(b_rows, device=device),
        torch.tensor(index, dtype=torch.int64, device=device),
        aligned=True,
    )
    each = tokens // len(ranks)
    segments = tuple(
        LoRASegments.build(
            tuple((copy * len(ranks) + i, i * each, (i + 1) * each) for i in range(len(ranks))),
            tokens,
            max(ranks),
            device,
        )
        for copy in range(copies)
    )
    return LoRASite(tables, segments, per_copy * dtype.itemsize)
