"""Owns how a batch says what each row wants drawn."""

from dataclasses import dataclass
from enum import IntEnum

import torch


class Column(IntEnum):
    """Columns of `Draws.table`."""

    INVERSE_TEMPERATURE = 0  # 0: greedy
    TOP_K = 1  # 0: off
    TOP_P = 2  # 1: off
    MIN_P = 3  # 0: off
    UNIFORM = 4  # in [0, 1)


@dataclass(frozen=True, slots=True)
class Draws:
    """How each row is drawn.

    Attributes:
        table: [rows, len(Column)] float64.
        cuts: whether a row of the table has top_k, top_p or min_p.
    """

    table: torch.Tensor
    cuts: bool
