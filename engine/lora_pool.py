"""Owns the way of adapters from the source to the device: who asks for what, what is brought next, what is pinned."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Set
from enum import Enum
from itertools import islice

from loraplex.engine.adapter_history import AdapterHistory, AdapterRecord
from loraplex.engine.adapter_loads import AdapterLoads
from loraplex.engine.adapter_places import AdapterPlaces
from loraplex.engine.adapter_report import AdapterReport, PinRefusedError, Tier
from loraplex.engine.arena import Arena
from loraplex.engine.lora import AdapterSource, LoRAWeights
from loraplex.engine.model_config import Module
from loraplex.engine.pages import BLOCK_SIZE

# Copies to the device begun in one step. Four of rank 16 on an 8B Llama take one or two steps to arrive.
_MAX_PLACED = 4
# One in so many pages may be pinned, so that there is always room for other adapters and for sequences.
_PINNED_SHARE = 2


class Residency(Enum):
    """What came of asking for an adapter."""

    READY = "ready"
    LOADING = "loading"
    FULL = "full"  # on the host, but everything on the device is in use
    FAILED = "failed"


class LoRAPool:
    """Adapters as pages of the arena, rank-exact: an adapter takes the rows it has and no more.

    An adapter is absent, loading, staged (on the host), copying or ready. Nothing here waits: host copies go to the
    device beside the steps, and an adapter is ready when `poll` sees that its copy has ended. Sequences that run hold
    their adapter (`acquire` / `release`).

    Attributes:
        tables: what kernels read.
        loads: copies to the device begun.
    """

    def __init__(self, modules: tuple[Module, ...], source: AdapterSource, arena: Arena) -> None:
        self.loads = 0
        self._pages = arena.pages
        self._page_bytes = arena.page_size * arena.memory.element_size()
        self._history = AdapterHistory()
        self._loads = AdapterLoads(source, self._history)
        self._places = AdapterPlaces(modules, arena, self._history, self._loads.release)
        self.tables = self._places.slots.tables
        self._pins: dict[int, int] = {}  # and the pages of each, 0 while unknown
        self._pinned_pages = 0  # the sum of that
        self._warming: dict[int, None] = {}
        self._placed_now = 0

    @property
    def loading(self) -> bool:
        """Whether something is on its way here."""
        return self._loads.loading or bool(self._places.copying) or self._places.clearing

    @property
    def has_work(self) -> bool:
        """Whether there is something to do that no request waits for."""
        missing = any(handle not in self._places.ready for handle in self._pins)
        return missing or bool(self._warming) or self._places.clearing

    @property
    def evictions(self) -> int:
        return self._places.evictions

    @property
    def failures(self) -> int:
        return self._loads.failures

    @property
    def resident(self) -> int:
        """How many adapters are on the device."""
        return len(self._places.ready)

    @property
    def num_pages(self) -> int:
        """Pages that adapters hold."""
        return self._places.num_pages

    @property
    def room(self) -> int:
        """Pages that are free or that somebody would give up."""
        return self._pages.obtainable()

    @property
    def idle_pages(self) -> int:
        """Pages of adapters that nobody uses and that may be evicted."""
        return self._places.idle_pages()

    def prefetch(self, handle: int) -> None:
        """Start a load unless the adapter is here, on its way, or too many others are."""
        if handle not in self._places.ready and handle not in self._places.copying:
            self._loads.request(handle)

    def warm(self, handles: Iterable[int]) -> None:
        """Bring adapters nobody waits for, in this order, as long as pages are free."""
        self._warming |= dict.fromkeys(handles)

    def poll(self) -> None:
        """Take over what has arrived since the last step, from the source and on the device."""
        self._placed_now = 0
        self._loads.collect()
        for handle in [h for h, size in self._pins.items() if not size and self.pages(h)]:
            self._settle_pin(handle)
        self._places.poll()

    def keep_waiting(self, wanted: Set[int]) -> None:
        """Say which adapters waiting sequences want. Host copies of others are let go, and theirs start for the device
        if that costs none of them."""
        self._places.spare(wanted)
        self._bring_unasked()
        self._loads.keep(_Either(wanted, self._pins, self._warming))
        for handle, weights in list(self._loads.staged.items()):
            if self._placed_now == _MAX_PLACED:
                break
            if self._too_large(handle, weights):
                self._warming.pop(handle, None)
                continue  # whoever asks is told
            asked = handle in wanted or handle in self._pins
            if asked or self._pages.num_free >= self._places.size(weights):
                self._place(handle, sparing=True)
            self._warming.pop(handle, None)

    def acquire(self, handle: int, *, insist: bool = False) -> Residency:
        """Hold the adapter for one more sequence if it is ready; otherwise do the next thing to make it so.

        Args:
            handle: the adapter.
            insist: make room for it even at the cost of idle adapters that other waiting sequences want. That is
                always allowed when no adapter is in use.
        """
        places = self._places
        if handle not in places.ready:
            if handle in places.copying:
                return Residency.LOADING
            if self._loads.failure(handle) is not None:
                return Residency.FAILED
            weights = self._loads.staged.get(handle)
            if weights is None:
                self._loads.request(handle)
                return Residency.LOADING
            if self._too_large(handle, weights):
                self._loads.fail(
                    handle,
                    "The adapter is larger than all memory for adapters on this server; "
                    "ask its operator for more, or train it with a smaller rank.",
                )
                return Residency.FAILED
            if self._placed_now == _MAX_PLACED:
                return Residency.LOADING
            if not self._place(handle, sparing=not insist and places.num_users > 0):
                return Residency.FULL
            if handle not in places.ready:
                return Residency.LOADING
        places.take(handle)
        return Residency.READY

    def release(self, handle: int) -> None:
        """One sequence less uses the adapter."""
        self._places.let_go(handle)

    def note_use(self, handle: int) -> None:
        """A request has begun to run with the adapter."""
        self._history.use(handle)

    def has_failed(self, handle: int) -> bool:
        """Whether the last load failed, and whoever asks is to be told."""
        return self._loads.failure(handle) is not None

    def failure(self, handle: int) -> str:
        """Why an adapter that has FAILED did."""
        error = self._loads.failure(handle)
        assert error is not None
        return error

    def slot(self, handle: int) -> int:
        return self._places.ready[handle].slot.number

    def max_rank(self, handle: int) -> int:
        return self._places.ready[handle].max_rank

    def is_ready(self, handle: int) -> bool:
        """Whether the adapter is on the device."""
        return handle in self._places.ready

    def pages(self, handle: int) -> int | None:
        """Pages the adapter takes; None if it was never here."""
        placed = self._places.ready.get(handle) or self._places.copying.get(handle)
        if placed is not None:
            return len(placed.pages)
        if handle in self._loads.staged:
            return self._places.size(self._loads.staged[handle])
        record = self._history.get(handle)
        return None if record is None or not record.pages else record.pages

    def users(self, handle: int) -> int:
        """Running sequences that hold the adapter."""
        placed = self._places.ready.get(handle)
        return 0 if placed is None else placed.users

    def resident_in_use(self) -> list[int]:
        """Adapters that running sequences hold."""
        return [handle for handle, placed in self._places.ready.items() if placed.users]

    def last_evictor(self, handle: int) -> int | None:
        """Handle of the adapter whose arrival pushed this one out last, EVICTED_BY_KV, or None if nothing ever did."""
        record = self._history.get(handle)
        return None if record is None else record.evicted_by

    def fits(self, handle: int | None, num_tokens: int) -> bool:
        """Whether a sequence of so many tokens could run if it were alone here, beside what is pinned. An adapter of
        unknown size is taken for nothing."""
        pages, own = self._pages, 0 if handle is None else self.pages(handle) or 0
        needed = -(-num_tokens // (BLOCK_SIZE * pages.blocks_per_page)) + own
        return needed + self._pinned_beside(handle) <= pages.num_pages

    def pin(self, handle: int, pinned: bool) -> None:
        """Keep an adapter on the device, bringing it there if needed, or let it go again.

        One of unknown size that turns out to be too large, or that cannot be loaded, is not pinned after all.

        Raises:
            PinRefusedError: pinned adapters would take more than half of the arena.
        """
        if not pinned:
            self._pinned_pages -= self._pins.pop(handle, 0)
            self._places.unpin(handle)
            return
        size = self.pages(handle) or 0
        if self._too_much_pinned(handle, size):
            raise PinRefusedError(
                "Pinned adapters may take half of the memory for adapters and KV at most; unpin another one first."
            )
        self._pinned_pages += size - self._pins.get(handle, 0)
        self._pins[handle] = size
        self._places.pin(handle)

    def unload(self, handle: int) -> tuple[int, bool]:
        """Remove the adapter; no sequence may hold it. Its memory is overwritten in stream order, so that nothing of
        it can be read afterwards.

        Returns:
            how many pages had or will have its weights, and whether there was a host copy.
        """
        staged = self._loads.discard(handle)
        self._pinned_pages -= self._pins.pop(handle, 0)
        self._warming.pop(handle, None)
        self._history.forget(handle)
        pages, copying = self._places.unload(handle)
        return pages, staged or copying

    def wait(self, timeout: float) -> None:
        """Sleep until something may have arrived, about `timeout` seconds at most."""
        copying = next(iter(self._places.copying.values()), None)
        if copying is not None:
            copying.copy.wait()
        else:
            self._loads.wait(timeout)

    def reports(self) -> Iterator[AdapterReport]:
        """Every adapter that is here or was not long ago, each as it is when its turn comes: thousands take
        milliseconds, which may be spread over steps."""
        for handle in self._history.handles():
            record = self._history.get(handle)
            if record is not None:
                yield self._report(handle, record)

    def check_integrity(self, users: Counter[int], kv_pages: set[int]) -> None:
        """See `AdapterPlaces.check_integrity`."""
        self._places.check_integrity(users, kv_pages)

    def _too_large(self, handle: int, weights: LoRAWeights) -> bool:
        room = self._pages.num_pages - self._pinned_beside(handle)
        too_many_rows = len(weights.a_rows) > self._places.slots.max_rows
        return self._places.size(weights) > room or too_many_rows

    def _pinned_beside(self, handle: int | None) -> int:
        own = 0 if handle is None else self._pins.get(handle, 0)
        return self._pinned_pages - own

    def _too_much_pinned(self, handle: int, size: int) -> bool:
        return (self._pinned_beside(handle) + size) * _PINNED_SHARE > self._pages.num_pages

    def _settle_pin(self, handle: int) -> None:
        """The size of a pinned adapter has become known."""
        size = self.pages(handle) or 0
        if self._too_much_pinned(handle, size):
            self.pin(handle, False)
        else:
            self._pinned_pages += size
            self._pins[handle] = size

    def _bring_unasked(self) -> None:
        """Start loads of pinned adapters and of those to be warm; one whose load fails is neither any more."""
        for handle in [h for h in self._pins if self._loads.failure(h) is not None]:
            self.pin(handle, False)
        # A few at a time: those that requests wait for need places among the loads too.
        places = self._places
        missing = (h for h in self._pins if h not in places.ready and h not in places.copying)
        for handle in islice(missing, _MAX_PLACED):
            self._loads.request(handle)
        if self._warming and self._pages.num_free == 0:
            self._warming.clear()
        for handle in list(islice(self._warming, _MAX_PLACED)):
            here = handle in self._places.ready or handle in self._places.copying
            if here or self._loads.failure(handle) is not None:
                del self._warming[handle]
            else:
                self._loads.request(handle)

    def _place(self, handle: int, *, sparing: bool) -> bool:
        """Start the copy of staged weights; False if there is no room."""
        weights = self._loads.staged[handle]
        record = self._history[handle]
        record.pages = self._places.size(weights)
        if not self._places.place(handle, weights, sparing=sparing):
            return False
        self._loads.take(handle)
        record.loads += 1
        record.fresh = True
        self._history.trim(_Either(self._places.ready, self._places.copying))
        self.loads += 1
        self._placed_now += 1
        return True

    def _report(self, handle: int, record: AdapterRecord) -> AdapterReport:
        placed = self._places.ready.get(handle)
        if placed is not None:
            tier = Tier.DEVICE
        elif handle in self._places.copying:
            tier = Tier.COPYING
        elif handle in self._loads.staged:
            tier = Tier.HOST
        else:
            tier = Tier.LOADING if self._loads.is_loading(handle) else Tier.ABSENT
        return AdapterReport(
            handle=handle,
            tier=tier,
            bytes=record.pages * self._page_bytes,
            users=0 if placed is None else placed.users,
            loads=record.loads,
            evictions=record.evictions,
            hits=record.hits,
            load_seconds=record.load_seconds,
            pinned=handle in self._pins,
            last_evicted_by=record.evicted_by,
        )


class _Either:
    """What is in one of several collections."""

    def __init__(self, *collections: Container[int]) -> None:
        self._collections = collections

    def __contains__(self, handle: object) -> bool:
        return any(handle in each for each in self._collections)
