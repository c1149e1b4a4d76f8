"""Owns where the rank rows of one adapter lie inside its host buffer: rows of one layer site together, in the order
the kernels read them, none across a page border."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch

from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module

# Linears that one fused GEMM computes; their LoRA rows are read by one launch.
_FUSED = {
    "q_proj": "qkv",
    "k_proj": "qkv",
    "v_proj": "qkv",
    "gate_proj": "gate_up",
    "up_proj": "gate_up",
}


class Run(NamedTuple):
    """Adjacent rows: `rows` of them from row `first` of a matrix, at element `start` of the buffer."""

    first: int
    rows: int
    start: int


@dataclass(frozen=True, slots=True)
class MatrixPlace:
    """Where one matrix of rank rows lies; `length` is the elements per row."""

    length: int
    runs: tuple[Run, ...]

    def offsets(self) -> np.ndarray:
        """[rows] int64, element offset of each row."""
        parts = [run.start + self.length * np.arange(run.rows) for run in self.runs]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of A and Bᵀ by module index, what of the buffer stays unused, and its length in elements."""

    a: Mapping[int, MatrixPlace]
    b: Mapping[int, MatrixPlace]
    gaps: tuple[tuple[int, int], ...]
    elements: int

    def weights(self, buffer: torch.Tensor) -> LoRAWeights:
        """What the engine gets, with `buffer` filled or yet to be filled."""
        modules = sorted(self.a)
        a_rows = [self.a[index].offsets() for index in modules]
        b_rows = [self.b[index].offsets() for index in modules]
        nothing = [np.zeros(0, dtype=np.int64)]
        return LoRAWeights(
            buffer,
            np.array(modules, dtype=np.int64),
            np.array([len(rows) for rows in a_rows], dtype=np.int64),
            np.concatenate(a_rows + nothing),
            np.concatenate(b_rows + nothing),
        )


def plan(ranks: Mapping[int, int], modules: tuple[Module, ...], page: int) -> Layout:
    """Place the rows of an adapter with `ranks` by module index in pages of `page` elements."""
    cursor = _Cursor(page)
    a: dict[int, MatrixPlace] = {}
    b: dict[int, MatrixPlace] = {}
    adapted = sorted((m for m in modules if m.index in ranks), key=lambda m: m.index)
    for _, group in groupby(adapted, key=_site):
        site = list(group)
        for module in site:
            a[module.index] = cursor.place(ranks[module.index], module.in_features)
        for module in site:
            b[module.index] = cursor.place(ranks[module.index], module.out_features)
    cursor.close()
    return Layout(a, b, tuple(cursor.gaps), cursor.position)


def _site(module: Module) -> str:
    parent, _, name = module.name.rpartition(".")
    return f"{parent}.{_FUSED.get(name, name)}"


class _Cursor:
    """Hands out rows from the front of an endless row of pages."""

    def __init__(self, page: int) -> None:
        self.position = 0
        self.gaps: list[tuple[int, int]] = []
        self._page = page

    def place(self, rows: int, length: int) -> MatrixPlace:
        runs = []
        first = 0
        while first < rows:
            fit = self._left() // length
            if fit == 0:
                self.close()
                fit = self._page // length
            fit = min(fit, rows - first)
            runs.append(Run(first, fit, self.position))
            self.position += fit * length
            first += fit
        return MatrixPlace(length, tuple(runs))

    def close(self) -> None:
        """Go to the next page border."""
        left = self._left() % self._page
        if left:
            self.gaps.append((self.position, self.position + left))
            self.position += left

    def _left(self) -> int:
        return self._page - self.position % self._page
