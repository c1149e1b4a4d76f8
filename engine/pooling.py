"""Owns what a caller asks of a vector for a text; `engine/pooler` makes it. Imports no torch, so that API workers can
use it."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["last", "mean"]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the hidden states of a prompt, as they are behind the model's last norm, become one vector.

    Attributes:
        method: "last" takes the state of the last token, "mean" the mean of all.
        normalize: whether the vector is scaled to length 1.
    """

    method: Method = "last"
    normalize: bool = False
