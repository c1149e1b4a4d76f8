"""Owns adapter slots and their entries in the tables that kernels read."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module
from loraplex.engine.ranges import RangeAllocator
from loraplex.engine.transfer import to_device
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRATables

# Each slot takes modules × 32 bytes: 59 MB for an 8B Llama.
_MAX_SLOTS = 8192
# 16 bytes each. All-linear adapters of 98 GB on an 8B Llama have as many rows, and so have a thousand adapters of
# rank 16 on any model of its depth.
_MAX_ROWS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot and its range of rows."""

    number: int
    first_row: int
    num_rows: int


class AdapterSlots:
    """Slots by number. What they hold is written in stream order, so a slot that is free may be filled again while
    steps that read it run."""

    def __init__(self, modules: tuple[Module, ...], arena: torch.Tensor, page_size: int) -> None:
        self._widths = np.array([(m.in_features, m.out_features) for m in modules])
        num_slots, num_rows = _sizes(modules, page_size, len(arena) // page_size)
        self._slots = RangeAllocator(num_slots)
        self._rows = RangeAllocator(num_rows)
        self._page_size = page_size
        device = arena.device
        # Rows follow each other from page borders on, so even widths keep them all aligned.
        aligned = not (self._widths % ROW_ALIGNMENT).any() and page_size % ROW_ALIGNMENT == 0
        self.tables = LoRATables(
            arena=arena,
            a_rows=torch.zeros(self._rows.size, dtype=torch.int64, device=device),
            b_rows=torch.zeros(self._rows.size, dtype=torch.int64, device=device),
            index=torch.zeros(self._slots.size, len(modules), 4, dtype=torch.int64, device=device),
            aligned=bool(aligned),
        )

    @property
    def max_rows(self) -> int:
        return self._rows.size

    @property
    def free_rows(self) -> int:
        return self._rows.num_free

    @property
    def num_free(self) -> int:
        return self._slots.num_free

    def take(self, num_rows: int) -> Slot | None:
        """Reserve a slot; None if there is none, or no range of rows that long."""
        first = self._rows.take(num_rows) if num_rows else 0
        number = None if first is None else self._slots.take(1)
        if first is None or number is None:
            if first is not None:
                self._rows.give(first, num_rows)
            return None
        return Slot(number, first, num_rows)

    def give(self, slot: Slot) -> None:
        """Return a slot."""
        self._rows.give(slot.first_row, slot.num_rows)
        self._slots.give(slot.number)
        self.tables.forget(slot.number)

    def fill(self, slot: Slot, weights: LoRAWeights, pages: list[int]) -> None:
        """Queue the entries of an adapter whose buffer lies in `pages`; steps launched from now on may use it. Nothing
        waits for the device."""
        tables = self.tables
        index = np.zeros(tables.index.shape[1:], dtype=np.int64)
        places = np.asarray(pages, dtype=np.int64)
        a_rows = self._moved(weights.a_rows, places)
        b_rows = self._moved(weights.b_rows, places)
        firsts = weights.ranks.cumsum() - weights.ranks
        index[weights.modules, 0] = slot.first_row + firsts
        index[weights.modules, 1] = weights.ranks
        for column, rows in enumerate((a_rows, b_rows)):
            widths = self._widths[weights.modules, column]
            index[weights.modules, 2 + column] = adjacent_bases(rows, firsts, weights.ranks, widths)
        a_part, b_part, entries = to_device([a_rows, b_rows, index], tables.arena.device)
        end = slot.first_row + slot.num_rows
        tables.a_rows[slot.first_row : end] = a_part
        tables.b_rows[slot.first_row : end] = b_part
        tables.index[slot.number] = entries
        tables.forget(slot.number)

    def check_integrity(self, held: list[Slot]) -> None:
        """Assert that every slot and row is free or held once."""
        numbers = self._slots.free() + [slot.number for slot in held]
        assert sorted(numbers) == list(range(self._slots.size))
        rows = sorted((slot.first_row, slot.num_rows) for slot in held if slot.num_rows)
        assert all(a + n <= b for (a, n), (b, _) in pairwise(rows))
        assert sum(n for _, n in rows) + self._rows.num_free == self._rows.size

    def _moved(self, offsets: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """Offsets in an adapter's own buffer as offsets in the arena."""
        shifts: np.ndarray = (pages - np.arange(len(pages))) * self._page_size
        moved: np.ndarray = offsets + shifts[offsets // self._page_size]
        return moved


def table_bytes(modules: tuple[Module, ...], page_size: int, num_pages: int) -> int:
    """Bytes on the device that the tables for an arena of so many pages take."""
    num_slots, num_rows = _sizes(modules, page_size, num_pages)
    return num_slots * len(modules) * 4 * 8 + num_rows * 2 * 8


def _sizes(modules: tuple[Module, ...], page_size: int, num_pages: int) -> tuple[int, int]:
    """Slots and rows."""
    # A page holds at most this many pairs of a row of A and a row of Bᵀ.
    pairs = page_size // min(module.in_features + module.out_features for module in modules)
    return min(num_pages, _MAX_SLOTS), min(max(1, num_pages * pairs), _MAX_ROWS)


def adjacent_bases(
    rows: np.ndarray, firsts: np.ndarray, ranks: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """[modules] offset of each module's first row where its rows lie one after the other, else -1.

    Args:
        rows: [rows] offsets, module by module.
        firsts, ranks, widths: [modules]: where each one's rows begin in `rows`, how many there are, at least 1, and
            their length.
    """
    if not len(firsts):
        return np.zeros(0, dtype=np.int64)
    # breaks[i]: how many of the first i rows are not followed by the next one. Not a loop over modules, as this is done
    # between two steps.
    breaks = np.zeros(len(rows), dtype=np.int64)
    np.cumsum(np.diff(rows) != np.repeat(widths, ranks)[:-1], out=breaks[1:])
    adjacent = breaks[firsts] == breaks[firsts + ranks - 1]
    return np.where(adjacent, rows[firsts], -1)
