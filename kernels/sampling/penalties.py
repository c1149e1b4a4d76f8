"""Owns changes to single logits: penalties, biases and bans, for all rows of a batch at once."""

from typing import NamedTuple

import torch


class Changes(NamedTuple):
    """Changes to single logits; no (row, token) occurs twice, unless `addends` of both are -inf.

    Attributes:
        places: [changes] int64, row × vocab + token.
        factors: [changes] float32; positive logits are divided by them, others multiplied.
        addends: [changes] float32, added afterwards.
    """

    places: torch.Tensor
    factors: torch.Tensor
    addends: torch.Tensor


def apply_changes(logits: torch.Tensor, changes: Changes) -> None:
    """Change [rows, vocab] float32 contiguous logits in place.

    Plain torch on every device: the work is a handful of elements per row, spread over the row.
    """
    flat = logits.view(-1)
    values = flat[changes.places]
    scaled = torch.where(values > 0, values / changes.factors, values * changes.factors)
    flat.index_copy_(0, changes.places, scaled + changes.addends)
