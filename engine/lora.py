"""Owns the port through which adapter weights reach the engine. The engine knows adapters by integer handle only;
what stands behind a handle (tenant, version, files) is the business of whoever implements `AdapterSource`."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch


class ModuleRows(NamedTuple):
    """Rank rows of one module inside `LoRAWeights.buffer`; row i of A starts at `a_offsets[i]`, of scaled Bᵀ at
    `b_offsets[i]` (element offsets)."""

    module: int
    a_offsets: tuple[int, ...]
    b_offsets: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.a_offsets)


@dataclass(frozen=True, slots=True)
class LoRAWeights:
    """One adapter in kernel layout, on the host.

    Attributes:
        buffer: 1-D, the model's dtype, whole pages long (`page_elements`); pinned where a GPU will read it. No rank row
            crosses a page border, so pages may be placed anywhere in the arena.
        modules: the modules the adapter has, ascending by module index.
    """

    buffer: torch.Tensor
    modules: tuple[ModuleRows, ...]

    @property
    def max_rank(self) -> int:
        return max((rows.rank for rows in self.modules), default=0)


class AdapterLoadError(Exception):
    """An adapter could not be brought to the host; the message is fit for its tenant."""


class LoadResult(NamedTuple):
    """Outcome of one load: exactly one of `weights` and `error` is set."""

    handle: int
    weights: LoRAWeights | None
    error: str | None


class AdapterSource(Protocol):
    """Weights by handle. All calls come from the engine's thread and return at once; loading happens elsewhere."""

    def request(self, handle: int) -> None:
        """Start bringing the adapter to the host, unless that is under way; `collect` returns the result once."""
        ...

    def collect(self) -> list[LoadResult]:
        """Results of requests that ended since the last call."""
        ...

    def wait(self, timeout: float) -> None:
        """Sleep until a result can be collected, at most `timeout` seconds."""
        ...


def page_elements(dtype: torch.dtype, longest_row: int) -> int:
    """Elements per arena page: 2 MiB, doubled until the longest rank row of the model (usually the vocabulary) fits."""
    size = 2 * 1024 * 1024 // dtype.itemsize
    while size < longest_row:
        size *= 2
    return size
