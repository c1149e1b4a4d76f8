"""Owns `lora_apply` on a CPU: few, large torch calls, as each call costs microseconds at every projection."""

from functools import lru_cache
from typing import NamedTuple

import torch

from loraplex.kernels.lora.stacks import stacked
from loraplex.kernels.lora.tables import LoRASegments, LoRATables

# Batched matmuls take as many rows of every adapter as the longest has; beyond this many rows in all they must not
# more than double the real work. 32 tokens spread unevenly over 8 adapters are still twice as fast padded to 128 rows.
_FREE_ROWS = 128


class _Layout(NamedTuple):
    """How the tokens of a batch become [adapters, longest] rows.

    Attributes:
        slots: adapters in order.
        longest: rows per adapter.
        first, last: tokens the spans cover from end to end.
        gather: [adapters × longest] the token in each row, padding repeats a token of the same adapter; None where
            the tokens are adjacent and equally many, so that a view does.
        kept: the rows that are no padding; their tokens are `tokens`.
        tokens: None where these are adjacent.
    """

    slots: tuple[int, ...]
    longest: int
    first: int
    last: int
    gather: torch.Tensor | None
    kept: torch.Tensor | None
    tokens: torch.Tensor | None


def lora_apply_reference(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    """Plain-torch twin of `lora_apply`."""
    if not segments.spans:
        return
    layout = _layout(segments.spans, x.device)
    # A batched product is rounded before it is added, which float32 can afford and 16 bits cannot.
    if layout is None or x.dtype is not torch.float32:
        _apply_one_by_one(y, x, tables, segments, first_module, slice_widths)
        return
    stack = stacked(tables, layout.slots, first_module, x.shape[1], slice_widths)
    adapters, first, last = len(layout.slots), layout.first, layout.last
    rows = x[first:last] if layout.gather is None else x.index_select(0, layout.gather)
    low = torch.bmm(rows.view(adapters, layout.longest, -1), stack.a)
    if layout.gather is None and len(stack.b) == 1:
        y[first:last].view(adapters, layout.longest, -1).baddbmm_(low, stack.b[0])
        return
    rank_at = width_at = 0
    for b in stack.b:
        rank, width = b.shape[1:]
        if rank:
            delta = torch.bmm(low[:, :, rank_at : rank_at + rank], b).view(-1, width)
            if layout.kept is not None:
                delta = delta.index_select(0, layout.kept)
            target = y[first:last, width_at : width_at + width]
            if layout.tokens is None:
                target.add_(delta)
            else:
                target.index_add_(0, layout.tokens, delta)
        rank_at += rank
        width_at += width


def _apply_one_by_one(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    slice_widths: tuple[int, ...],
) -> None:
    for slot, start, stop in segments.spans:
        rows = x[start:stop]
        column = 0
        for part, width in enumerate(slice_widths):
            a = tables.matrix_a(slot, first_module + part, x.shape[1])
            if len(a):
                b = tables.matrix_b(slot, first_module + part, width)
                y[start:stop, column : column + width].addmm_(rows @ a.T, b)
            column += width


# The spans of a step are asked about at every projection, and often stay for many steps.
@lru_cache(maxsize=16)
def _layout(spans: tuple[tuple[int, int, int], ...], device: torch.device) -> _Layout | None:
    """None where padding would cost more than calls."""
    counts = [stop - start for _, start, stop in spans]
    longest, total = max(counts), sum(counts)
    if len(spans) * longest > max(_FREE_ROWS, 2 * total):
        return None
    slots = tuple(slot for slot, _, _ in spans)
    first, last = spans[0][1], spans[-1][2]
    adjacent = last - first == total
    if adjacent and len(spans) * longest == total:
        return _Layout(slots, longest, first, last, None, None, None)
    place = torch.arange(longest, device=device)
    starts = torch.tensor([start for _, start, _ in spans], device=device)[:, None]
    lengths = torch.tensor(counts, device=device)[:, None]
    gather = (starts + torch.minimum(place, lengths - 1)).flatten()
    kept = (place < lengths).flatten().nonzero().flatten()
    tokens = None if adjacent else gather[kept] - first
    return _Layout(slots, longest, first, last, gather, kept, tokens)
