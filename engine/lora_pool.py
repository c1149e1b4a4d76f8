"""Owns adapters in device memory: which are resident, where their rank rows lie, who uses them, who must go."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch

from loraplex.engine.lora import AdapterSource, LoRAWeights
from loraplex.engine.model_config import Module
from loraplex.engine.ranges import RangeAllocator
from loraplex.engine.transfer import to_device
from loraplex.kernels.lora.tables import ROW_ALIGNMENT, LoRATables, adjacent_base

# More slots than this in one index table would buy nothing: each takes modules × 32 bytes.
_MAX_SLOTS = 8192
# Adapters on their way to the device at a time, loading or on the host and waiting for room: each holds host memory.
_MAX_STAGED = 16


class Residency(Enum):
    """What came of asking for an adapter."""

    READY = "ready"
    LOADING = "loading"
    FULL = "full"  # on the host, but everything on the device is in use
    FAILED = "failed"


@dataclass(slots=True)
class _Resident:
    slot: int
    pages: list[int]
    first_row: int
    num_rows: int
    max_rank: int
    users: int = 0
    last_used: int = 0


@dataclass(slots=True)
class LoRAPoolStats:
    resident: int = 0
    pages_total: int = 0
    pages_free: int = 0
    loads: int = 0
    evictions: int = 0
    failures: int = 0


class LoRAPool:
    """Adapters as pages of one arena, rank-exact: an adapter takes the rows it has and no more.

    Sequences that run hold their adapter (`acquire` / `release`); what nobody holds is evicted, least recently used
    first, when another one needs the room.
    """

    def __init__(
        self,
        modules: tuple[Module, ...],
        source: AdapterSource,
        *,
        num_pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._source = source
        self._page_size = page_size  # elements
        self._modules = {module.index: module for module in modules}
        self._pages = RangeAllocator(num_pages)
        self._owner_of: list[int | None] = [
            None
        ] * num_pages  # whose bytes a page holds, also after eviction
        # A page holds at most this many pairs of a row of A and a row of B.
        smallest_pair = min(module.in_features + module.out_features for module in modules)
        max_rows = max(1, num_pages * (page_size // smallest_pair))
        self._rows = RangeAllocator(max_rows)
        num_slots = min(num_pages, _MAX_SLOTS)
        self._free_slots = list(range(num_slots - 1, -1, -1))
        # Rows follow each other from page borders on, so even widths keep them all aligned.
        widths = {w for m in modules for w in (m.in_features, m.out_features)} | {page_size}
        self.tables = LoRATables(
            arena=torch.empty(num_pages * page_size, dtype=dtype, device=device),
            a_rows=torch.zeros(max_rows, dtype=torch.int64, device=device),
            b_rows=torch.zeros(max_rows, dtype=torch.int64, device=device),
            index=torch.zeros(num_slots, len(modules), 4, dtype=torch.int64, device=device),
            aligned=all(width % ROW_ALIGNMENT == 0 for width in widths),
        )
        self._resident: dict[int, _Resident] = {}
        self._loading: set[int] = set()
        self._staged: dict[int, LoRAWeights] = {}  # on the host, waiting for room
        self._failed: dict[int, str] = {}
        self._clock = 0
        self.stats = LoRAPoolStats(pages_total=num_pages, pages_free=num_pages)

    @property
    def loading(self) -> bool:
        return bool(self._loading)

    def prefetch(self, handle: int) -> None:
        """Start a load unless the adapter is here, on its way, or too many others are."""
        if handle in self._resident or handle in self._staged or handle in self._loading:
            return
        if len(self._staged) + len(self._loading) >= _MAX_STAGED:
            return
        # A new request deserves a new attempt.
        self._failed.pop(handle, None)
        self._loading.add(handle)
        self._source.request(handle)

    def poll(self) -> None:
        """Take over what the source has brought since the last step."""
        for result in self._source.collect():
            self._loading.discard(result.handle)
            if result.weights is not None:
                self._staged[result.handle] = result.weights
            else:
                self.stats.failures += 1
                self._failed[result.handle] = result.error or "The adapter could not be loaded."

    def acquire(self, handle: int) -> Residency:
        """Hold the adapter for one more sequence if it is, or can be made, resident."""
        resident = self._resident.get(handle)
        if resident is None:
            if handle in self._failed:
                return Residency.FAILED
            weights = self._staged.get(handle)
            if weights is None:
                self.prefetch(handle)
                return Residency.LOADING
            if not self._fits(weights):
                del self._staged[handle]
                self._failed[handle] = (
                    "The adapter is larger than all memory for adapters on this server; "
                    "ask its operator for more, or train it with a smaller rank."
                )
                return Residency.FAILED
            resident = self._place(handle, weights)
            if resident is None:
                return Residency.FULL
            del self._staged[handle]
            self._resident[handle] = resident
            self.stats.resident = len(self._resident)
        resident.users += 1
        self._clock += 1
        resident.last_used = self._clock
        return Residency.READY

    def release(self, handle: int) -> None:
        """One sequence less uses the adapter."""
        resident = self._resident[handle]
        resident.users -= 1
        assert resident.users >= 0

    def failure(self, handle: int) -> str:
        return self._failed[handle]

    def slot(self, handle: int) -> int:
        return self._resident[handle].slot

    def max_rank(self, handle: int) -> int:
        return self._resident[handle].max_rank

    def unload(self, handle: int) -> None:
        """Remove the adapter from the device; no sequence may hold it.

        Its memory is overwritten, so that nothing of a deleted adapter can be read afterwards.
        """
        self._staged.pop(handle, None)
        self._failed.pop(handle, None)
        resident = self._resident.get(handle)
        if resident is not None:
            assert resident.users == 0
            self._evict(handle)
        for page, owner in enumerate(self._owner_of):
            if owner == handle:
                self.tables.arena[page * self._page_size : (page + 1) * self._page_size] = 0
                self._owner_of[page] = None

    def keep_waiting(self, wanted: set[int]) -> None:
        """Let go of host copies and failures that no waiting sequence asks for any more."""
        for handle in [h for h in self._staged if h not in wanted]:
            del self._staged[handle]
        for handle in [h for h in self._failed if h not in wanted]:
            del self._failed[handle]

    def _fits(self, weights: LoRAWeights) -> bool:
        rows = sum(rows.rank for rows in weights.modules)
        return (
            weights.buffer.numel() // self._page_size <= self._pages.size
            and rows <= self._rows.size
        )

    def _place(self, handle: int, weights: LoRAWeights) -> _Resident | None:
        """Copy an adapter into the arena, evicting unused ones as needed; None if that would not be enough, and then
        nothing is evicted."""
        num_pages = weights.buffer.numel() // self._page_size
        num_rows = sum(rows.rank for rows in weights.modules)
        unused = [r for r in self._resident.values() if r.users == 0]
        if self._pages.num_free + sum(len(r.pages) for r in unused) < num_pages:
            return None
        if self._rows.num_free + sum(r.num_rows for r in unused) < num_rows:
            return None
        idle = sorted((r.last_used, other) for other, r in self._resident.items() if r.users == 0)
        while True:
            first_row = self._rows.take(num_rows) if num_rows else 0
            if first_row is not None and self._free_slots and num_pages <= self._pages.num_free:
                break
            if first_row is not None:
                self._rows.give(first_row, num_rows)
            if not idle:
                return None
            self._evict(idle.pop(0)[1])
            self.stats.evictions += 1
        pages = self._take_pages(num_pages)
        for page in pages:
            self._owner_of[page] = handle
        resident = _Resident(self._free_slots.pop(), pages, first_row, num_rows, weights.max_rank)
        self._copy(weights, resident)
        self.stats.loads += 1
        self.stats.pages_free = self._pages.num_free
        return resident

    def _take_pages(self, count: int) -> list[int]:
        # Adjacent pages let the CPU path read whole matrices as views; scattered ones do where there are none.
        start = self._pages.take(count) if count else 0
        if start is not None:
            return list(range(start, start + count))
        pages = []
        for _ in range(count):
            page = self._pages.take(1)
            assert page is not None
            pages.append(page)
        return pages

    def _copy(self, weights: LoRAWeights, resident: _Resident) -> None:
        size, tables = self._page_size, self.tables
        for begin, end in _runs(resident.pages):
            target = resident.pages[begin] * size
            source = weights.buffer[begin * size : end * size]
            tables.arena[target : target + source.numel()].copy_(source, non_blocking=True)
        pages = np.asarray(resident.pages, dtype=np.int64)
        index = np.zeros(tables.index.shape[1:], dtype=np.int64)
        a_rows = _moved([o for rows in weights.modules for o in rows.a_offsets], pages, size)
        b_rows = _moved([o for rows in weights.modules for o in rows.b_offsets], pages, size)
        at = 0
        for rows in weights.modules:
            module, end = self._modules[rows.module], at + rows.rank
            index[rows.module] = (
                resident.first_row + at,
                rows.rank,
                adjacent_base(a_rows[at:end], module.in_features),
                adjacent_base(b_rows[at:end], module.out_features),
            )
            at = end
        # No copy waits for the device: it may be in the middle of a step.
        a_part, b_part, entries = to_device([a_rows, b_rows, index], tables.arena.device)
        end = resident.first_row + resident.num_rows
        tables.a_rows[resident.first_row : end] = a_part
        tables.b_rows[resident.first_row : end] = b_part
        tables.index[resident.slot] = entries
        tables.forget(resident.slot)

    def _evict(self, handle: int) -> None:
        resident = self._resident.pop(handle)
        for begin, end in _runs(resident.pages):
            self._pages.give(resident.pages[begin], end - begin)
        self._rows.give(resident.first_row, resident.num_rows)
        self._free_slots.append(resident.slot)
        self.tables.forget(resident.slot)
        self.stats.resident = len(self._resident)
        self.stats.pages_free = self._pages.num_free


def _moved(offsets: list[int], pages: np.ndarray, page_size: int) -> np.ndarray:
    """Offsets in an adapter's own buffer as offsets in the arena."""
    host = np.asarray(offsets, dtype=np.int64)
    return pages[host // page_size] * page_size + host % page_size


def _runs(pages: list[int]) -> list[tuple[int, int]]:
    """Index ranges of `pages` whose page numbers follow each other."""
    runs: list[tuple[int, int]] = []
    for index, page in enumerate(pages):
        if runs and pages[runs[-1][1] - 1] + 1 == page:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
