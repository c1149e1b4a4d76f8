"""Random adapters laid out in an arena as the engine lays them out, and batches of tokens that use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from loraplex.kernels.lora.tables import (
    ROW_ALIGNMENT,
    LoRASegments,
    LoRATables,
    adjacent_base,
)

POPULARITIES = ("identical", "distinct", "uniform", "skewed", "base-only")


@dataclass(frozen=True, slots=True)
class RandomAdapters:
    """Adapters of slots 0, 1, ...

    Attributes:
        tables: what the kernels read. Everything in the arena that is no rank row is NaN.
        weights: per slot, by module: A [rank, in_features] and scaled Bᵀ [rank, out_features], in the arena's dtype.
        ranks: per slot, by module.
    """

    tables: LoRATables
    weights: list[dict[int, tuple[torch.Tensor, torch.Tensor]]]
    ranks: list[dict[int, int]]

    def max_rank(self, slots: Sequence[int]) -> int:
        """Largest rank of any module of these slots."""
        return max((rank for slot in slots for rank in self.ranks[slot].values()), default=0)

    def delta(self, x: torch.Tensor, slot: int, module: int) -> torch.Tensor:
        """x Aᵀ B in float64; a zero where the adapter leaves the module alone."""
        if module not in self.weights[slot]:
            return torch.zeros((), dtype=torch.float64, device=x.device)
        a, b = self.weights[slot][module]
        return x.double() @ a.double().T @ b.double()


def random_adapters(
    modules: Sequence[tuple[int, int]],
    ranks: Sequence[Mapping[int, int]],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    scattered: bool = True,
) -> RandomAdapters:
    """Draw adapters and lay them out.

    Args:
        modules: (in_features, out_features) of each module.
        ranks: per adapter, the rank at each module it has.
        dtype: of the arena.
        device: of everything returned.
        scattered: rows lie in random order with gaps; otherwise one after the other, where views are possible.
    """
    weights: list[dict[int, tuple[torch.Tensor, torch.Tensor]]] = []
    rows: list[torch.Tensor] = []
    kinds: list[bool] = []  # True for a row of A
    index = torch.zeros((len(ranks), len(modules), 4), dtype=torch.int64)
    count = 0
    for slot, by_module in enumerate(ranks):
        weights.append({})
        for module, (wide, narrow) in enumerate(modules):
            rank = by_module.get(module, 0)
            index[slot, module, :2] = torch.tensor([count, rank])
            if not rank:
                continue
            a = (torch.randn(rank, wide) / wide**0.5).to(dtype)
            b = (torch.randn(rank, narrow) / rank**0.5).to(dtype)
            weights[slot][module] = (a.to(device), b.to(device))
            rows += [*a, *b]
            kinds += [True] * rank + [False] * rank
            count += rank
    order = torch.randperm(len(rows)).tolist() if scattered else range(len(rows))
    gaps = torch.randint(0, 9, (len(rows) + 1,)).tolist() if scattered else [0] * (len(rows) + 1)
    starts = [0] * len(rows)
    end = gaps[-1]
    for row in order:
        starts[row] = end
        end += len(rows[row]) + gaps[row]
    arena = torch.full((max(end, 1),), float("nan"), dtype=dtype)
    for start, row_values in zip(starts, rows, strict=True):
        arena[start : start + len(row_values)] = row_values

    def offsets(wanted: bool) -> torch.Tensor:
        chosen = [s for s, is_a in zip(starts, kinds, strict=True) if is_a is wanted]
        return torch.tensor(chosen or [0], dtype=torch.int64, device=device)

    at = 0
    for slot, by_module in enumerate(ranks):
        for module, widths in enumerate(modules):
            rank = by_module.get(module, 0)
            for kind, width in enumerate(widths):
                base = adjacent_base(np.asarray(starts[at : at + rank]), width)
                index[slot, module, 2 + kind] = base
                at += rank

    tables = LoRATables(
        arena.to(device),
        offsets(True),
        offsets(False),
        index.to(device),
        aligned=all(start % ROW_ALIGNMENT == 0 for start in starts),
    )
    return RandomAdapters(tables, weights, [dict(r) for r in ranks])


def make_spans(
    popularity: str, tokens: int, num_adapters: int, *, base_tokens: int = 0
) -> tuple[tuple[int, int, int], ...]:
    """Spans of a batch of `tokens` tokens, the last `base_tokens` of which use no adapter.

    Args:
        popularity: one of POPULARITIES: one adapter for all, one per token, the same number each, or half of what is
            left for each next adapter.
        tokens: of the batch, base tokens included.
        num_adapters: adapters to choose from; slots are used in descending order, to differ from token order.
        base_tokens: at the end of the batch.
    """
    left = tokens - base_tokens
    if popularity == "base-only" or left <= 0:
        return ()
    counts = {
        "identical": [left],
        "distinct": [1] * min(left, num_adapters),
        "uniform": [left // num_adapters + (i < left % num_adapters) for i in range(num_adapters)],
        "skewed": [max(1, left >> (i + 1)) for i in range(num_adapters)],
    }[popularity]
    spans, start = [], 0
    for slot, size in enumerate(counts):
        stop = min(start + size, left)
        if stop > start:
            spans.append((num_adapters - 1 - slot, start, stop))
        start = stop
    return tuple(spans)


def make_segments(
    adapters: RandomAdapters, spans: tuple[tuple[int, int, int], ...], num_tokens: int
) -> LoRASegments:
    """Segments of a batch of `num_tokens` tokens."""
    max_rank = adapters.max_rank([slot for slot, _, _ in spans])
    return LoRASegments.build(spans, num_tokens, max_rank, adapters.tables.arena.device)
