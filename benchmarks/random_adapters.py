"""Owns adapters made of random numbers, which the engine loads like any other: no files, no downloads."""

import time
from collections.abc import Sequence

import torch

from loraplex.adapters.layout import plan
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pages import page_elements


class RandomAdapters:
    """An `AdapterSource` of adapters on all linears, or on those whose names end in one of `targets`; each has its own
    memory on the device.

    Handles count through the ranks: handle h has rank `ranks[h % len(ranks)]`. One host buffer per rank serves as the
    contents of all its adapters.
    """

    def __init__(
        self,
        model: ModelConfig,
        ranks: Sequence[int],
        dtype: torch.dtype,
        *,
        pin: bool,
        targets: tuple[str, ...] = ("",),
    ) -> None:
        self._ranks = tuple(ranks)
        linears = [m for m in model.modules() if m.index < model.embedding_module]
        self._modules = [m for m in linears if m.name.endswith(targets)]
        self._item_bytes = dtype.itemsize
        page = page_elements(dtype, model.modules())
        values = torch.empty(page, dtype=dtype).normal_(0, 0.01)
        self._weights: dict[int, LoRAWeights] = {}
        for rank in set(ranks):
            layout = plan({m.index: rank for m in self._modules}, model.modules(), page)
            buffer = torch.empty(layout.elements, dtype=dtype, pin_memory=pin)
            # A gigabyte of numbers of its own would take seconds.
            buffer.view(-1, page).copy_(values)
            self._weights[rank] = layout.weights(buffer)
        self._wanted: list[int] = []

    def rank(self, handle: int) -> int:
        return self._ranks[handle % len(self._ranks)]

    def handles(self, rank: int, count: int) -> list[int]:
        """The first `count` adapters of a rank."""
        first = self._ranks.index(rank)
        return [first + number * len(self._ranks) for number in range(count)]

    def bytes(self, handle: int) -> int:
        """Bytes of an adapter's matrices."""
        elements = sum(m.in_features + m.out_features for m in self._modules)
        return self.rank(handle) * elements * self._item_bytes

    def request(self, handle: int) -> None:
        self._wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        done, self._wanted = self._wanted, []
        return [LoadResult(handle, self._weights[self.rank(handle)], None) for handle in done]

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.001))
