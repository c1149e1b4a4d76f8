"""Owns the arena: the device memory that KV blocks and adapters share, and what happens to it beside steps, which is
copies from the host and overwriting with zeros."""

from collections import deque
from contextlib import nullcontext

import numpy as np
import torch

from loraplex.engine.page_pool import PagePool
from loraplex.engine.ranges import runs
from loraplex.engine.transfer import to_device

# Launches whose end copies can wait for. With steps one ahead two are under way.
_EVENTS = 4
# Stretches that are filled one by one: each takes 4 µs to launch and runs at the speed of memory. One launch for any
# number of blocks runs at a fifth of that.
_MOST_FILLS = 32


class Copy:
    """A copy on its way to the device."""

    def __init__(self, done: "torch.cuda.Event | None") -> None:
        self._done = done

    def done(self) -> bool:
        return self._done is None or self._done.query()

    def wait(self) -> None:
        if self._done is not None:
            self._done.synchronize()


class Arena:
    """One tensor of whole pages.

    Steps run on the stream that is current when their launch is queued, and zeros are written there. Copies run on a
    stream of their own, which waits for queued work that may use the pages they overwrite; no step waits for a copy.

    Attributes:
        memory: [elements], the model's dtype.
        pages: who has which page.
        page_size: elements of a page.
    """

    def __init__(
        self, pages: PagePool, page_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.pages = pages
        self.page_size = page_size
        self.memory = torch.empty(pages.num_pages * page_size, dtype=dtype, device=device)
        self._blocks = self.memory.view(pages.num_pages * pages.blocks_per_page, -1)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._launches: deque[tuple[int, torch.cuda.Event]] = deque(maxlen=_EVENTS)

    def copy(self, buffer: torch.Tensor, pages: list[int], adapter: int) -> Copy:
        """Start filling pages with an adapter's weights.

        Args:
            buffer: [pages × page_size], on the host, pinned for a GPU; it must stay until the copy is done.
            pages: where they go, in order.
            adapter: whose they are.
        """
        self.overwrite()
        self.pages.contents.hold_weights(pages, adapter)
        size = self.page_size
        stream = self._copies
        if stream is not None:
            freed = int(self.pages.freed_at[pages].max(initial=0))
            stream.wait_event(self._launch_after(freed))
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            for begin, end in runs(pages):
                target = pages[begin] * size
                part = buffer[begin * size : end * size]
                self.memory[target : target + part.numel()].copy_(part, non_blocking=True)
        if stream is None:
            return Copy(None)
        done = torch.cuda.Event()
        done.record(stream)
        return Copy(done)

    def overwrite(self) -> None:
        """Queue zeros for all blocks that are to be overwritten; call before every launch."""
        contents = self.pages.contents
        if not contents.pending:
            return
        blocks = sorted(set(contents.pending))
        contents.pending = []
        numbers = np.asarray(blocks, dtype=np.int64)
        adjacent = runs(blocks)
        if len(adjacent) <= _MOST_FILLS:
            for begin, end in adjacent:
                self._blocks[blocks[begin] : blocks[begin] + end - begin].zero_()
        else:
            self._blocks.index_fill_(0, to_device([numbers], self.memory.device)[0], 0)
        self.pages.freed_at[numbers // self.pages.blocks_per_page] = self.pages.now()

    def launched(self) -> None:
        """Note that a step has been queued."""
        if self._copies is not None:
            self._record()

    def _launch_after(self, time: int) -> torch.cuda.Event:
        """An event behind all work that was queued before `time`, the earliest there is."""
        for recorded, event in self._launches:
            if recorded > time:
                return event
        return self._record()

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record()
        self._launches.append((self.pages.now(), event))
        return event
