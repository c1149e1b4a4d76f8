"""Owns a priority queue whose keys grow while things stand in it."""

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

# What has left a heap is dropped when it comes to the top; beyond so many entries per live one the heap is rebuilt.
_STALE = 2

T = TypeVar("T", bound=Hashable)
Key = tuple[float, ...]


class GrowingHeap(Generic[T]):
    """Distinct items, smallest key first. A key may grow at any time: its item then stands too far in front, and is put
    right when it comes to the top. A key must not shrink."""

    def __init__(self, key: Callable[[T], Key]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int, T]] = []
        self._entries: dict[T, int] = {}
        self._number = 0

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def add(self, item: T) -> None:
        """Put an item in that is not here."""
        if len(self._heap) > 16 + _STALE * len(self._entries):
            self._heap = [entry for entry in self._heap if self._entries.get(entry[2]) == entry[1]]
            heapify(self._heap)
        self._number += 1
        self._entries[item] = self._number
        heappush(self._heap, (self._key(item), self._number, item))

    def discard(self, item: T) -> None:
        """Take an item out if it is here."""
        self._entries.pop(item, None)

    def first(self) -> T | None:
        heap = self._heap
        while heap:
            key, number, item = heap[0]
            if self._entries.get(item) != number:
                heappop(heap)
            elif key != (now := self._key(item)):
                heapreplace(heap, (now, number, item))
            else:
                return item
        return None
