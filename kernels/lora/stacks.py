"""Owns the stacked copies a CPU keeps of the adapters of a batch, so that one batched matmul serves all of them.

At decode an adapter has a handful of tokens and each torch call costs more than its arithmetic; adapters come and go
far more rarely than steps, so the copies last. They live among the tables' views, one stack per projection, under
slot numbers no adapter has.
"""

from typing import NamedTuple

import torch

from loraplex.kernels.lora.tables import LoRATables

_STACK = -1  # the stack itself; its parts, the matrices it was copied from, are -2, -3, ...
# Up to this many rank columns the slices are expanded together with a block-diagonal B: for ranks 8 at q, k, v it
# takes 33 instead of 44 us (32 tokens, 8 adapters, hidden 256, one core of an EPYC), for ranks 16 it would lose.
_BLOCK_DIAGONAL_COLUMNS = 24


class Stack(NamedTuple):
    """Adapters of a batch, padded with zeros to the largest rank among them.

    Attributes:
        a: [adapters, in_features, columns], the slices side by side.
        b: per block of output columns [adapters, block's columns of s, block's width].
    """

    a: torch.Tensor
    b: tuple[torch.Tensor, ...]


def stacked(
    tables: LoRATables,
    slots: tuple[int, ...],
    first_module: int,
    in_features: int,
    slice_widths: tuple[int, ...],
) -> Stack:
    """The stack of these adapters, in this order, for one projection; rebuilt only when one of them changed."""
    views = tables._views
    a = views.get((_STACK, first_module, "a"))
    if (
        a is None
        or len(a) != len(slots)
        or any(
            views.get((slot, first_module, "a")) is not views[_STACK - 1 - place, first_module, "a"]
            for place, slot in enumerate(slots)
        )
    ):
        return _build(tables, slots, first_module, in_features, slice_widths)
    blocks = [views[_STACK, first_module, "b0"]]
    if blocks[0].shape[2] == slice_widths[0]:
        blocks += [views[_STACK, first_module, f"b{i}"] for i in range(1, len(slice_widths))]
    return Stack(a, tuple(blocks))


def _build(
    tables: LoRATables,
    slots: tuple[int, ...],
    first_module: int,
    in_features: int,
    slice_widths: tuple[int, ...],
) -> Stack:
    parts = range(len(slice_widths))
    down = [[tables.matrix_a(s, first_module + i, in_features) for s in slots] for i in parts]
    up = [
        [tables.matrix_b(s, first_module + i, width) for s in slots]
        for i, width in enumerate(slice_widths)
    ]
    ranks = [max(len(a) for a in matrices) for matrices in down]
    a = tables.arena.new_zeros((len(slots), sum(ranks), in_features))
    together = sum(ranks) <= _BLOCK_DIAGONAL_COLUMNS
    shapes = (
        [(sum(ranks), sum(slice_widths))] if together else zip(ranks, slice_widths, strict=True)
    )
    blocks = [tables.arena.new_zeros((len(slots), *shape)) for shape in shapes]
    row, column = 0, 0
    for part, width in enumerate(slice_widths):
        block = blocks[0][:, row:, column : column + width] if together else blocks[part]
        for place, (low, high) in enumerate(zip(down[part], up[part], strict=True)):
            a[place, row : row + len(low)] = low
            block[place, : len(high)] = high
        row += ranks[part]
        column += width
    views = tables._views
    stack = Stack(a.transpose(1, 2), tuple(blocks))
    views[_STACK, first_module, "a"] = stack.a
    for number, block in enumerate(blocks):
        views[_STACK, first_module, f"b{number}"] = block
    for place, matrix in enumerate(down[0]):
        views[_STACK - 1 - place, first_module, "a"] = matrix
    return stack
