"""Owns adapters on the device: their pages and slots, who uses them, and which of the unused ones goes next."""

from collections import Counter
from collections.abc import Callable, Container, Set
from dataclasses import dataclass

from loraplex.engine.adapter_history import AdapterHistory
from loraplex.engine.adapter_slots import AdapterSlots, Slot
from loraplex.engine.arena import Arena, Copy
from loraplex.engine.eviction import EvictionQueue
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module


@dataclass(slots=True)
class Placed:
    """An adapter with pages and a slot; `weights` only while they are being copied."""

    slot: Slot
    pages: list[int]
    max_rank: int
    copy: Copy
    weights: LoRAWeights | None
    users: int = 0
    last_used: int = 0


class AdapterPlaces:
    """Adapters with pages: their weights are being copied, or they are ready. A ready one without users that is not
    pinned is idle: it gives way, what costs least to lose first, when another adapter or KV needs the room.

    Args:
        modules: of the base model.
        arena: where the pages are.
        history: what each adapter is worth.
        copied: called with the handle when weights are no more needed on the host.

    Attributes:
        ready, copying: by handle; copies end in the order in which they began.
        pinned: never idle.
        evictions: how often an adapter gave way.
    """

    def __init__(
        self,
        modules: tuple[Module, ...],
        arena: Arena,
        history: AdapterHistory,
        copied: Callable[[int], None],
    ) -> None:
        self.slots = AdapterSlots(modules, arena.memory, arena.page_size)
        self.ready: dict[int, Placed] = {}
        self.copying: dict[int, Placed] = {}
        self.pinned: set[int] = set()
        self.evictions = 0
        self._arena = arena
        self._pages = arena.pages
        self._history = history
        self._copied = copied
        # Unloaded while their pages were being filled: the pages are free when that has ended.
        self._condemned: list[tuple[int, Placed]] = []
        self._idle = EvictionQueue()
        self._idle_pages = 0
        self._wanted: Set[int] = frozenset()
        self._wanted_pages: int | None = 0  # idle pages of wanted adapters; None: to be counted
        self.num_users = 0
        self._pages.join(self)

    @property
    def clearing(self) -> bool:
        """Whether pages of unloaded adapters wait for the end of a copy."""
        return bool(self._condemned)

    @property
    def num_pages(self) -> int:
        """Pages that adapters hold."""
        placed = [*self.ready.values(), *self.copying.values(), *(p for _, p in self._condemned)]
        return sum(len(each.pages) for each in placed)

    def spare(self, wanted: Set[int]) -> None:
        """Say what waiting sequences want: it is given up only where `sparing` does not forbid it."""
        self._wanted = wanted
        self._wanted_pages = None

    def poll(self) -> None:
        """See which copies have ended."""
        while self.copying:
            handle, placed = next(iter(self.copying.items()))
            if not placed.copy.done():
                break
            del self.copying[handle]
            self._arrive(handle, placed)
        while self._condemned and self._condemned[0][1].copy.done():
            handle, placed = self._condemned.pop(0)
            self._copied(handle)
            self._wipe(self._blocks(placed.pages))
            self._pages.give(placed.pages)

    def place(self, handle: int, weights: LoRAWeights, *, sparing: bool) -> bool:
        """Start a copy to the device, evicting what is idle as needed; False if that would not be enough, and then
        nothing is evicted."""
        num_pages = self.size(weights)
        if self._pages.obtainable(sparing=sparing) < num_pages:
            return False
        slot = self._take_slot(handle, len(weights.a_rows), sparing=sparing)
        if slot is None:
            return False
        self._pages.make_room(num_pages, handle, sparing=sparing)
        pages = self._pages.take_first(num_pages)
        copy = self._arena.copy(weights.buffer, pages, handle)
        placed = Placed(slot, pages, weights.max_rank, copy, weights)
        if copy.done():
            self._arrive(handle, placed)
        else:
            self.copying[handle] = placed
        return True

    def take(self, handle: int) -> None:
        """One more sequence uses a ready adapter."""
        if handle in self._idle:
            self._end_idle(handle)
        self.ready[handle].users += 1
        self.num_users += 1

    def let_go(self, handle: int) -> None:
        """One sequence less uses it."""
        placed = self.ready[handle]
        placed.users -= 1
        self.num_users -= 1
        assert placed.users >= 0
        self._begin_idle(handle)

    def pin(self, handle: int) -> None:
        """Never evict an adapter, whether it is here or comes later."""
        self.pinned.add(handle)
        if handle in self._idle:
            self._end_idle(handle)

    def unpin(self, handle: int) -> None:
        if handle in self.pinned:
            self.pinned.remove(handle)
            if handle in self.ready:
                self._begin_idle(handle)

    def unload(self, handle: int) -> tuple[int, bool]:
        """Remove an adapter nobody uses and queue zeros for every page that still has its weights, also from earlier
        stays; pages that a copy is filling get them when it has ended, and are free after that.

        Returns:
            how many pages, and whether a copy was under way.
        """
        self.pinned.discard(handle)
        copying = self.copying.pop(handle, None)
        if copying is not None:
            self.slots.give(copying.slot)
            self._condemned.append((handle, copying))
        if handle in self.ready:
            assert not self.ready[handle].users
            if handle in self._idle:
                self._end_idle(handle)
            self._remove(handle)
        per_page = self._pages.blocks_per_page
        blocks = self._pages.contents.weights_of(handle)
        self.poll()
        later = {page for _, placed in self._condemned for page in placed.pages}
        self._wipe([block for block in blocks if block // per_page not in later])
        return len({block // per_page for block in blocks}), copying is not None

    def size(self, weights: LoRAWeights) -> int:
        """Pages of an adapter."""
        return weights.buffer.numel() // self._arena.page_size

    def idle_pages(self, *, sparing: bool = False) -> int:
        """See `PageHolder`."""
        if not sparing:
            return self._idle_pages
        if self._wanted_pages is None:
            # Once a step: thousands may be wanted.
            idle = (self.ready[h] for h in self._wanted if h in self._idle)
            self._wanted_pages = sum(len(placed.pages) for placed in idle)
        return self._idle_pages - self._wanted_pages

    def idle_since(self, *, sparing: bool) -> int | None:
        """See `PageHolder`."""
        victim = self._idle.first(self._spared(sparing=sparing))
        return None if victim is None else self.ready[victim].last_used

    def give_up(self, by: int, *, sparing: bool) -> None:
        """See `PageHolder`."""
        victim = self._idle.first(self._spared(sparing=sparing))
        assert victim is not None
        record = self._history[victim]
        record.evictions += 1
        record.evicted_by = by
        self.evictions += 1
        self._idle.evict(victim)
        self._count_idle(victim, -1)
        self._remove(victim)

    def check_integrity(self, users: Counter[int], kv_pages: set[int]) -> None:
        """Assert that adapters are used by as many sequences as run with them, and that every page, slot and row has
        one owner."""
        assert {h: p.users for h, p in self.ready.items() if p.users} == dict(users)
        assert self.num_users == users.total()
        idle = {h for h, p in self.ready.items() if not p.users and h not in self.pinned}
        assert {h for h in self.ready if h in self._idle} == idle
        assert self._idle_pages == sum(len(self.ready[h].pages) for h in idle)
        wanted_pages = sum(len(self.ready[h].pages) for h in idle & self._wanted)
        assert self._wanted_pages in (None, wanted_pages)
        holders = [*self.ready.values(), *self.copying.values()]
        self.slots.check_integrity([placed.slot for placed in holders])
        holders += [placed for _, placed in self._condemned]
        pages = [page for placed in holders for page in placed.pages]
        owned = sorted([*pages, *kv_pages, *self._pages.free_pages()])
        assert owned == list(range(self._pages.num_pages))

    def _spared(self, *, sparing: bool) -> Container[int]:
        return self._wanted if sparing else ()

    def _take_slot(self, handle: int, num_rows: int, *, sparing: bool) -> Slot | None:
        """A slot, evicting what is idle as needed; pages nearly always run out first."""
        slot = self.slots.take(num_rows)
        if slot is not None:
            return slot
        spared = self._spared(sparing=sparing)
        idle = [p.slot for h, p in self.ready.items() if h in self._idle and h not in spared]
        if self.slots.free_rows + sum(s.num_rows for s in idle) < num_rows:
            return None
        while slot is None and self._idle.first(spared) is not None:
            self.give_up(handle, sparing=sparing)
            slot = self.slots.take(num_rows)
        return slot

    def _arrive(self, handle: int, placed: Placed) -> None:
        """A copy has ended: steps launched from now on can use it."""
        assert placed.weights is not None
        self.slots.fill(placed.slot, placed.weights, placed.pages)
        placed.weights = None
        self._copied(handle)
        self.ready[handle] = placed
        self._begin_idle(handle)

    def _begin_idle(self, handle: int) -> None:
        placed = self.ready[handle]
        placed.last_used = self._pages.now()
        if not placed.users and handle not in self.pinned:
            self._idle.add(handle, self._history.worth(handle))
            self._count_idle(handle, 1)

    def _end_idle(self, handle: int) -> None:
        self._idle.remove(handle)
        self._count_idle(handle, -1)

    def _count_idle(self, handle: int, sign: int) -> None:
        pages = sign * len(self.ready[handle].pages)
        self._idle_pages += pages
        if self._wanted_pages is not None and handle in self._wanted:
            self._wanted_pages += pages

    def _remove(self, handle: int) -> None:
        """Give back what a ready adapter holds that is not idle any more."""
        placed = self.ready.pop(handle)
        self.slots.give(placed.slot)
        self._pages.give(placed.pages)

    def _blocks(self, pages: list[int]) -> list[int]:
        per_page = self._pages.blocks_per_page
        return [b for page in pages for b in range(page * per_page, (page + 1) * per_page)]

    def _wipe(self, blocks: list[int]) -> None:
        self._pages.contents.wipe(blocks)
        self._arena.overwrite()
