"""Owns what keeping an adapter is worth: GreedyDual-Size-Frequency, with a memory of use that outlives eviction."""

import time
from collections import OrderedDict
from collections.abc import Callable

# After an hour without use half of what an adapter was used counts no more: the morning's favourites fade by noon.
HALF_LIFE_SECONDS = 3600.0
# Adapters whose use is remembered. An entry takes about 300 bytes.
MAX_REMEMBERED = 20_000


class _Use:
    __slots__ = ("at", "count", "priority", "seconds", "size")

    def __init__(self) -> None:
        self.count = 0.0
        self.at = 0.0
        self.seconds = 0.0
        self.size = 1
        self.priority = 0.0


class Worth:
    """Priority by name: the level at last use + uses · seconds to load again / bytes. Evicting raises the level to the
    priority of what went, so whatever is not used again falls behind in time, however often it was used before.

    Not thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._level = 0.0
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    def used(self, name: str, size: int, seconds: float | None = None) -> None:
        """Note one use of `size` bytes; `seconds`: what bringing them took, if they were just brought."""
        now = self._clock()
        use = self._uses.get(name)
        if use is None:
            use = self._uses[name] = _Use()
            while len(self._uses) > MAX_REMEMBERED:
                self._uses.popitem(last=False)
        use.count = use.count * 0.5 ** ((now - use.at) / HALF_LIFE_SECONDS) + 1.0
        use.at, use.size = now, max(1, size)
        if seconds is not None:
            use.seconds = seconds
        use.priority = self._level + use.count * use.seconds / use.size
        self._uses.move_to_end(name)

    def priority(self, name: str) -> tuple[float, float]:
        """What to evict first has the lowest; the time of last use decides between equals."""
        use = self._uses.get(name)
        return (0.0, 0.0) if use is None else (use.priority, use.at)

    def lost(self, name: str) -> float:
        """What evicting it costs, in expected seconds of loading."""
        use = self._uses.get(name)
        return 0.0 if use is None else max(0.0, use.priority - self._level) * use.size

    def last_used(self, name: str) -> float:
        """By the clock; 0 if never."""
        use = self._uses.get(name)
        return 0.0 if use is None else use.at

    def evicted(self, name: str) -> None:
        """It was evicted to make room."""
        self._level = max(self._level, self.priority(name)[0])

    def forget(self, name: str) -> None:
        """It is gone for good."""
        self._uses.pop(name, None)
