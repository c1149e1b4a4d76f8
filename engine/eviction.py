"""Owns the order in which idle adapters are evicted: those whose loss costs least first."""

import heapq
from collections.abc import Container


class EvictionQueue:
    """Greedy-dual ordering: an adapter's priority is its worth plus the priority of the last one that was evicted, so
    what was precious long ago comes to its end too."""

    def __init__(self) -> None:
        self._priority: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._floor = 0.0

    def __contains__(self, handle: object) -> bool:
        return handle in self._priority

    def add(self, handle: int, worth: float) -> None:
        """An adapter has become idle."""
        priority = self._floor + worth
        self._priority[handle] = priority
        heapq.heappush(self._heap, (priority, handle))

    def remove(self, handle: int) -> None:
        """An adapter is idle no more, or gone."""
        del self._priority[handle]
        if len(self._heap) > 4 * len(self._priority) + 64:
            self._heap = [(priority, handle) for handle, priority in self._priority.items()]
            heapq.heapify(self._heap)

    def first(self, spared: Container[int] = ()) -> int | None:
        """The next to go that is not spared."""
        passed: list[tuple[float, int]] = []
        found = None
        while self._heap:
            priority, handle = self._heap[0]
            if self._priority.get(handle) == priority:
                if handle not in spared:
                    found = handle
                    break
                passed.append(self._heap[0])
            heapq.heappop(self._heap)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def evict(self, handle: int) -> None:
        """Remove one that has to go: what it was worth is the least that later ones are worth more than."""
        self._floor = max(self._floor, self._priority[handle])
        self.remove(handle)
