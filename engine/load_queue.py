"""Owns the order in which adapters that requests wait for are brought to the host."""

from collections import deque
from heapq import heappop, heappush
from itertools import islice
from typing import Protocol

from loraplex.engine.sequence import Sequence

# Adapters that are asked for and not on the device yet: enough to hide the latency of a disk or a database behind each
# other. The pool takes 16; the rest is for adapters that were evicted before their requests had used them.
_MAX_ASKED = 12
_MAX_URGENT = 4


class Loads(Protocol):
    """What is needed of the pool of adapters."""

    def prefetch(self, handle: int) -> None: ...


class LoadQueue:
    """Adapters to load: clients take turns, and each one's most urgent request goes first."""

    def __init__(self) -> None:
        self._wanted: dict[int, None] = {}  # asked for or not; until `discard`
        self._asked: dict[int, None] = {}
        self._urgent: dict[int, None] = {}
        self._unasked: dict[
            int, list[tuple[int, int, int]]
        ] = {}  # by client: priority, arrival, handle
        self._turns: deque[int] = deque()

    def is_behind(self, handle: int) -> bool:
        """Whether an adapter is wanted, and has others before it."""
        if handle in self._asked or handle not in self._wanted:
            return False
        return handle not in islice(self._urgent, _MAX_URGENT)

    def add(self, sequence: Sequence, handle: int, *, urgent: bool = False) -> None:
        """Want an adapter because of a waiting request; again is no harm."""
        if urgent and handle not in self._asked:
            self._wanted[handle] = self._urgent[handle] = None
        if handle in self._wanted:
            return
        self._wanted[handle] = None
        request, client = sequence.request, sequence.request.share.client
        if client not in self._unasked:
            self._unasked[client] = []
            self._turns.append(client)
        heappush(self._unasked[client], (request.priority, sequence.arrival, handle))

    def discard(self, handle: int) -> None:
        """The adapter is on the device, its load has failed, or nobody waits for it any more."""
        self._wanted.pop(handle, None)
        self._asked.pop(handle, None)
        self._urgent.pop(handle, None)

    def ask(self, pool: Loads) -> None:
        """Start what may be started; what is under way is not started again."""
        while len(self._asked) < _MAX_ASKED and self._turns:
            client = self._turns.popleft()
            heap = self._unasked[client]
            handle = heappop(heap)[2]
            if handle in self._wanted and handle not in self._urgent:
                self._asked[handle] = None
            if heap:
                self._turns.append(client)
            else:
                del self._unasked[client]
        for handle in self.asked():
            pool.prefetch(handle)

    def asked(self) -> list[int]:
        """Those that are started, if there is room."""
        return [*islice(self._urgent, _MAX_URGENT), *self._asked]
