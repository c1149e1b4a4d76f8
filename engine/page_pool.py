"""Owns the pages of the arena: who gets which, and who of the two sides gives up idle ones when they run out."""

from typing import Protocol

import numpy as np

from loraplex.engine.contents import Contents
from loraplex.engine.ranges import RangeAllocator, runs


class PageHolder(Protocol):
    """A side that holds pages, and keeps some of them only because nobody else wants them.

    `sparing` leaves out what requests wait for.
    """

    def idle_pages(self, *, sparing: bool) -> int:
        """Pages it can give up."""
        ...

    def idle_since(self, *, sparing: bool) -> int | None:
        """When what it would give up next was used last, by `PagePool.now`; None if there is nothing."""
        ...

    def give_up(self, by: int, *, sparing: bool) -> None:
        """Give that up: at least one page. `by` is the handle of the adapter that needs it, or EVICTED_BY_KV."""
        ...


class PagePool:
    """Pages by number. Adapters take them from the low end, adjacent where possible, KV from the high end, so neither
    cuts the other's memory to pieces.

    Attributes:
        num_pages, blocks_per_page: the geometry.
        contents: whose bytes lie where.
        freed_at: [pages] int64, when each page was last given back or wiped.
    """

    def __init__(self, num_pages: int, blocks_per_page: int = 1) -> None:
        self.num_pages = num_pages
        self.blocks_per_page = blocks_per_page
        self.contents = Contents(num_pages, blocks_per_page)
        self.freed_at = np.zeros(num_pages, dtype=np.int64)
        self._free = RangeAllocator(num_pages)
        self._holders: list[PageHolder] = []
        self._clock = 0

    def join(self, holder: PageHolder) -> None:
        """Add a side that may have to give up pages."""
        self._holders.append(holder)

    def now(self) -> int:
        """A number above all that were returned before."""
        self._clock += 1
        return self._clock

    @property
    def num_free(self) -> int:
        return self._free.num_free

    def obtainable(self, *, sparing: bool = False, but: PageHolder | None = None) -> int:
        """Pages that are free, or would be if both sides, or all `but` one, gave up what is idle."""
        others = (h.idle_pages(sparing=sparing) for h in self._holders if h is not but)
        return self.num_free + sum(others)

    def idle_since(self, but: PageHolder) -> int | None:
        """When the oldest idle thing of the others was used last."""
        found = (h.idle_since(sparing=False) for h in self._holders if h is not but)
        return min((since for since in found if since is not None), default=None)

    def make_room(self, pages: int, by: int, *, sparing: bool = False) -> None:
        """Have idle things given up, those unused longest first, until so many pages are free; `obtainable` must be
        at least that."""
        if self.num_free >= pages:
            return
        ages = [holder.idle_since(sparing=sparing) for holder in self._holders]
        while self.num_free < pages:
            _, index = min((since, i) for i, since in enumerate(ages) if since is not None)
            self._holders[index].give_up(by, sparing=sparing)
            ages[index] = self._holders[index].idle_since(sparing=sparing)

    def take_first(self, count: int) -> list[int]:
        """`count` free pages of the low end."""
        return self._free.take_pieces(count)

    def take_last(self, count: int) -> list[int]:
        """The highest `count` free pages, descending."""
        return self._free.take_last(count)

    def give(self, pages: list[int]) -> None:
        """Give pages back, best in ascending order. Work that is queued on the device may still use them."""
        self.freed_at[pages] = self.now()
        for begin, end in runs(pages):
            self._free.give(pages[begin], end - begin)

    def free_pages(self) -> list[int]:
        """Every free page; for checks."""
        return self._free.free()
