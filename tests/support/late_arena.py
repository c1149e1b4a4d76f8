"""An arena, a source of adapters and modules for tests of what happens when: loads and copies end when a test says so,
and contents tell whose they are."""

import numpy as np
import torch

from loraplex.engine.arena import Arena, Copy
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.model_config import Module, ModuleKind
from loraplex.engine.page_pool import PagePool

MODULES = tuple(Module(i, f"m{i}", ModuleKind.LINEAR, 4, 4) for i in range(2))
BLOCK = 16  # elements; rows are short enough for three in a block


class LateCopy(Copy):
    """Ends when it is told to."""

    def __init__(self) -> None:
        super().__init__(None)
        self.ended = False

    def done(self) -> bool:
        return self.ended


class LateArena(Arena):
    """Copies write at both ends of the time they may take, so that pages given away too early are found out."""

    def __init__(self, pages: PagePool, page_size: int) -> None:
        super().__init__(pages, page_size, dtype=torch.float32, device=torch.device("cpu"))
        self.memory.zero_()
        self.under_way: list[tuple[LateCopy, torch.Tensor, list[int]]] = []

    def copy(self, buffer: torch.Tensor, pages: list[int], adapter: int) -> Copy:
        super().copy(buffer, pages, adapter)
        late = LateCopy()
        self.under_way.append((late, buffer, pages))
        return late

    def end_copy(self) -> None:
        late, buffer, pages = self.under_way.pop(0)
        self.memory.view(-1, self.page_size)[pages] = buffer.view(-1, self.page_size)
        late.ended = True


class LateSource:
    """Answers when told to. What the engine has given back is filled with NaN.

    Args:
        page_size: elements.
        pages: of each adapter, by handle; one rank row of A and one of Bᵀ per page, at the beginning of it.

    Attributes:
        wanted: requested and not answered.
        out: buffers that the engine has not given back, by handle.
    """

    def __init__(self, page_size: int, pages: dict[int, int]) -> None:
        self.page_size = page_size
        self.pages = pages
        self.wanted: list[int] = []
        self.results: list[LoadResult] = []
        self.out: dict[int, list[torch.Tensor]] = {handle: [] for handle in pages}

    def request(self, handle: int) -> None:
        assert handle not in self.wanted, "asked twice"
        self.wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        results, self.results = self.results, []
        return results

    def release(self, handle: int) -> None:
        self.out[handle].pop(0).fill_(float("nan"))

    def wait(self, timeout: float) -> None:
        raise AssertionError

    def answer(self, handle: int, *, good: bool = True, seconds: float = 0.1) -> None:
        self.wanted.remove(handle)
        weights = self._weights(handle) if good else None
        self.results.append(LoadResult(handle, weights, None if good else "no", seconds))

    def _weights(self, handle: int) -> LoRAWeights:
        rank = self.pages[handle]
        buffer = torch.full((rank * self.page_size,), weights_value(handle))
        self.out[handle].append(buffer)
        rows = np.arange(rank) * self.page_size
        return LoRAWeights(buffer, np.array([handle % 2]), np.array([rank]), rows, rows + 4)


def weights_value(handle: int) -> float:
    """Every element of an adapter."""
    return 100.0 + handle
