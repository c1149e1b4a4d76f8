"""Owns which packed adapters lie where in host memory: adjacent bytes for each, room made by giving up what is worth
least, never anything that is in use or pinned."""

import math
from bisect import insort
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from loraplex.adapters.host_memory import HostBuffer, HostMemory
from loraplex.adapters.worth import Worth
from loraplex.engine.lora import LoRAWeights


@dataclass(slots=True, eq=False)
class HostEntry:
    """One adapter in host memory, or being written there.

    Attributes:
        weights: None until it is whole.
        holds: readers that have it and were not released; while there are any its bytes stay as they are.
        gone: nobody can find it any more; its bytes are freed with the last hold.
        wipe: overwrite the bytes then.
    """

    identity: str
    buffer: HostBuffer
    weights: LoRAWeights | None = None
    holds: int = 0
    gone: bool = False
    wipe: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.buffer.size


# Start, length, what lies there, what giving it up costs.
_Piece = tuple[int, int, HostEntry | None, float]


class _Window(NamedTuple):
    """Adjacent pieces that could make room."""

    start: int
    cost: float
    last_used: float
    entries: list[HostEntry]


class HostTier:
    """Packed adapters by identity. Not thread-safe: its owner locks.

    Attributes:
        bytes: held inside the memory's capacity, unfinished ones included.
        evictions: adapters given up to make room.
    """

    def __init__(self, memory: HostMemory, worth: Worth) -> None:
        self.bytes = 0
        self.evictions = 0
        self._memory = memory
        self._worth = worth
        self._found: dict[str, HostEntry] = {}
        self._placed: list[tuple[int, HostEntry]] = []  # inside the capacity, by address
        self._temporary: set[HostEntry] = set()
        self._pinned: frozenset[str] = frozenset()

    @property
    def capacity(self) -> int:
        """Bytes."""
        return self._memory.capacity

    def __len__(self) -> int:
        return len(self._found)

    def get(self, identity: str) -> HostEntry | None:
        """The whole adapter, if it is here."""
        return self._found.get(identity)

    def identities(self) -> list[str]:
        """Adapters that are here, most valuable first."""
        return sorted(self._found, key=self._worth.priority, reverse=True)

    def pin(self, identities: Collection[str]) -> None:
        """Only these are never given up for others, from now on."""
        self._pinned = frozenset(identities)

    def reserve(self, identity: str, size: int) -> HostEntry:
        """Room for `size` bytes, held once by the caller: inside the capacity if what is worth keeping least makes way,
        else temporary.

        Raises:
            MemoryError: not even temporary memory is left.
        """
        window = self._cheapest(size)
        if window is None:
            entry = HostEntry(identity, self._memory.temporary(size), holds=1)
            self._place(entry)
            return entry
        for entry in window.entries:
            self._worth.evicted(entry.identity)
            self.evictions += 1
            self._leave(entry)
        entry = HostEntry(identity, self._memory.at(window.start, size), holds=1)
        self._place(entry)
        return entry

    def occupy(self, start: int, size: int) -> HostEntry:
        """Count bytes that somebody still reads, known here by nothing else, as held once."""
        entry = HostEntry("", self._memory.at(start, size), holds=1, gone=True, wipe=True)
        self._place(entry)
        return entry

    def keep(self, entry: HostEntry, weights: LoRAWeights) -> None:
        """A reserved entry is whole now and can be found, unless its memory is temporary: that one goes with its last
        hold."""
        entry.weights = weights
        if entry in self._temporary:
            entry.gone = True
            return
        self.drop(entry.identity)
        self._found[entry.identity] = entry

    def hold(self, entry: HostEntry) -> None:
        """One more reader has it."""
        entry.holds += 1

    def release(self, entry: HostEntry) -> None:
        """One reader less; also ends the hold of `reserve`."""
        entry.holds -= 1
        assert entry.holds >= 0
        if not entry.holds and (entry.gone or entry.weights is None):
            self._free(entry)

    def drop(self, identity: str, *, wipe: bool = False) -> None:
        """Nobody finds it any more; its bytes are freed as soon as nobody reads them."""
        entry = self._found.get(identity)
        if entry is not None:
            entry.wipe = wipe
            self._leave(entry)

    def still_has(self, identity: str) -> bool:
        """Whether there are bytes of it that nobody can find any more, but somebody reads."""
        placed = [entry for _, entry in self._placed]
        return any(e.gone and e.identity == identity for e in (*placed, *self._temporary))

    def _leave(self, entry: HostEntry) -> None:
        del self._found[entry.identity]
        entry.gone = True
        if not entry.holds:
            self._free(entry)

    def _place(self, entry: HostEntry) -> None:
        if entry.buffer.start >= self._memory.capacity:
            self._temporary.add(entry)
            return
        insort(self._placed, (entry.buffer.start, entry), key=lambda placed: placed[0])
        self.bytes += entry.size

    def _free(self, entry: HostEntry) -> None:
        if entry in self._temporary:
            self._temporary.discard(entry)
        else:
            self._placed.remove((entry.buffer.start, entry))
            self.bytes -= entry.size
        self._memory.free(entry.buffer, wipe=entry.wipe)

    def _cost(self, entry: HostEntry) -> float:
        if entry.holds or entry.identity in self._pinned:
            return math.inf
        return self._worth.lost(entry.identity)

    def _cheapest(self, size: int) -> _Window | None:
        """The stretch of at least `size` bytes whose adapters are missed least. A stretch rather than the least
        valuable ones one by one: adjacent bytes are needed, and this frees no more than they take."""
        pieces = self._pieces()
        best: _Window | None = None
        first, length, blocked, cost = 0, 0, 0, 0.0
        for last, (_, piece_length, _, piece_cost) in enumerate(pieces):
            length += piece_length
            blocked += piece_cost == math.inf
            cost += 0.0 if piece_cost == math.inf else piece_cost
            while length - pieces[first][1] >= size:
                length -= pieces[first][1]
                blocked -= pieces[first][3] == math.inf
                cost -= 0.0 if pieces[first][3] == math.inf else pieces[first][3]
                first += 1
            # Sums that were added to and taken from differ in their last digits.
            if length < size or blocked or (best is not None and cost > best.cost * 1.000001):
                continue
            window = self._window(pieces[first : last + 1])
            if best is None or (window.cost, window.last_used) < (best.cost, best.last_used):
                best = window
            if not best.entries:
                return best
        return best

    def _window(self, pieces: list[_Piece]) -> _Window:
        entries = [entry for _, _, entry, _ in pieces if entry is not None]
        used = [self._worth.last_used(entry.identity) for entry in entries]
        cost = math.fsum(cost for _, _, _, cost in pieces)
        return _Window(pieces[0][0], cost, max(used, default=0.0), entries)

    def _pieces(self) -> list[_Piece]:
        """Everything inside the capacity, gaps included, by address."""
        pieces: list[_Piece] = []
        at = 0
        for start, entry in self._placed:
            if start > at:
                pieces.append((at, start - at, None, 0.0))
            size = entry.size
            pieces.append((start, size, entry, self._cost(entry)))
            at = start + size
        if at < self._memory.capacity:
            pieces.append((at, self._memory.capacity - at, None, 0.0))
        return pieces
