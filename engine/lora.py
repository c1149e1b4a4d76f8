"""Owns the port through which adapter weights reach the engine. The engine knows adapters by integer handle only;
what stands behind a handle (tenant, version, files) is the business of whoever implements `AdapterSource`."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch


@dataclass(frozen=True, slots=True, eq=False)
class LoRAWeights:
    """One adapter in kernel layout, on the host. Arrays, as an adapter has thousands of rank rows.

    Attributes:
        buffer: 1-D, the model's dtype, whole pages long (`pages.page_elements`); pinned where a GPU will read it. No
            rank row crosses a page border, so pages may be placed anywhere in the arena.
        modules: [modules] int64, index of each module the adapter has, ascending.
        ranks: [modules] int64, their ranks.
        a_rows, b_rows: [sum of ranks] int64, element offset in `buffer` of each row of A and of scaled Bᵀ, module by
            module.
    """

    buffer: torch.Tensor
    modules: np.ndarray
    ranks: np.ndarray
    a_rows: np.ndarray
    b_rows: np.ndarray

    @property
    def max_rank(self) -> int:
        return int(self.ranks.max(initial=0))


class AdapterLoadError(Exception):
    """An adapter could not be brought to the host; the message is fit for its tenant."""


class LoadResult(NamedTuple):
    """Outcome of one load: exactly one of `weights` and `error` is set. `seconds` is what bringing the weights to the
    host took; 0 if they were there."""

    handle: int
    weights: LoRAWeights | None
    error: str | None
    seconds: float = 0.0


class AdapterSource(Protocol):
    """Weights by handle. All calls come from the engine's thread and return at once; loading happens elsewhere."""

    def request(self, handle: int) -> None:
        """Start bringing the adapter to the host, unless that is under way; `collect` returns the result once."""
        ...

    def collect(self) -> list[LoadResult]:
        """Results of requests that ended since the last call. The memory behind their buffers stays as it is until
        `release`."""
        ...

    def release(self, handle: int) -> None:
        """The engine has no more use of the weights it collected: they are copied, or not wanted any more. Comes once
        for each result with weights."""
        ...

    def wait(self, timeout: float) -> None:
        """Sleep until a result can be collected, at most `timeout` seconds."""
        ...
