"""Owns the memory packed adapters lie in on the host: private to this process, or one file in memory that two processes
map, so that what one packs the other can hand to the GPU."""

import mmap
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch

from loraplex.engine.ranges import RangeAllocator

# Beyond the capacity the shared file has room for adapters that find none inside. Address space costs nothing until it
# is written, and 64 GiB are more than any number of loads under way can fill.
TEMPORARY_BYTES = 64 * 1024**3
# Granularity of temporary ranges, a multiple of every page size of the system.
_TEMPORARY_UNIT = 2 * 1024 * 1024


class HostBuffer(NamedTuple):
    """`data`: uint8 [size]. `start` names its place in the memory."""

    start: int
    data: torch.Tensor
    size: int


class HostMemory(Protocol):
    """`capacity` bytes, handed out by address by whoever owns it (`host_tier.HostTier`)."""

    capacity: int

    def at(self, start: int, size: int) -> HostBuffer:
        """The `size` bytes from `start` on, inside the capacity."""
        ...

    def temporary(self, size: int) -> HostBuffer:
        """`size` bytes beyond the capacity; a GPU may copy from them more slowly.

        Raises:
            MemoryError: there are none.
        """
        ...

    def free(self, buffer: HostBuffer, *, wipe: bool) -> None:
        """The bytes are not needed any more; `wipe`: nobody may read them again."""
        ...


class PrivateMemory:
    """Memory of this process, allocated for each adapter; page-locked for a GPU where `pin` is set."""

    def __init__(self, capacity: int, *, pin: bool = False) -> None:
        self.capacity = capacity
        self._pin = pin

    def at(self, start: int, size: int) -> HostBuffer:
        """See `HostMemory.at`; the address only counts."""
        return HostBuffer(start, torch.empty(size, dtype=torch.uint8, pin_memory=self._pin), size)

    def temporary(self, size: int) -> HostBuffer:
        """See `HostMemory.temporary`."""
        return self.at(self.capacity, size)

    def free(self, buffer: HostBuffer, *, wipe: bool) -> None:
        """See `HostMemory.free`; the memory itself goes with its last reader."""
        if wipe:
            buffer.data.zero_()


class SharedMemory:
    """A memory file mapped into this process. Of the processes that map it one hands it out; the others only read.

    Attributes:
        region: uint8 [capacity + temporary bytes], the whole mapping.
    """

    def __init__(self, fd: int, capacity: int, *, skip: int = 0) -> None:
        """Map the file behind `fd`, which `create` has made for this capacity.

        `skip`: bytes at the beginning of the temporary part that are never handed out.
        """
        self.capacity = capacity
        self._fd = fd
        self._map = mmap.mmap(fd, capacity + TEMPORARY_BYTES)
        self.region = torch.frombuffer(self._map, dtype=torch.uint8)
        self._temporary = RangeAllocator(TEMPORARY_BYTES // _TEMPORARY_UNIT)
        self._temporary.take(_units(skip))

    @staticmethod
    def create(capacity: int) -> int:
        """The descriptor of a new memory file; nothing of it takes memory until it is written."""
        fd = os.memfd_create("loraplex-adapters", os.MFD_CLOEXEC)
        os.ftruncate(fd, capacity + TEMPORARY_BYTES)
        return fd

    def at(self, start: int, size: int) -> HostBuffer:
        """See `HostMemory.at`."""
        return HostBuffer(start, self.region[start : start + size], size)

    def temporary(self, size: int) -> HostBuffer:
        """See `HostMemory.temporary`."""
        unit = self._temporary.take(_units(size))
        if unit is None:
            raise MemoryError("no temporary memory is left")
        return self.at(self.capacity + unit * _TEMPORARY_UNIT, size)

    def free(self, buffer: HostBuffer, *, wipe: bool) -> None:
        """See `HostMemory.free`."""
        if buffer.start >= self.capacity:
            self.give_back(buffer.start, buffer.size)
            unit = (buffer.start - self.capacity) // _TEMPORARY_UNIT
            self._temporary.give(unit, _units(buffer.size))
        elif wipe:
            # Given back to the system it would come back as other memory than the one a GPU knows as page-locked.
            buffer.data.zero_()

    def give_back(self, start: int, size: int) -> None:
        """Return temporary bytes to the system; they read as zero from now on."""
        self._map.madvise(mmap.MADV_REMOVE, start, _units(size) * _TEMPORARY_UNIT)

    def wipe_all(self, kept: Iterable[tuple[int, int]]) -> None:
        """Overwrite or return whatever an earlier process has left, except `kept` ranges (start, size)."""
        kept = sorted(kept)
        for start, end in self._written():
            for begin, stop in _without(start, end, kept):
                self.region[begin:stop] = 0
        whole = [(s, _units(size) * _TEMPORARY_UNIT) for s, size in kept if s >= self.capacity]
        for begin, stop in _without(self.capacity, self.capacity + TEMPORARY_BYTES, whole):
            self._map.madvise(mmap.MADV_REMOVE, begin, stop - begin)

    def _written(self) -> Iterator[tuple[int, int]]:
        position = 0
        while position < self.capacity:
            try:
                start = os.lseek(self._fd, position, os.SEEK_DATA)
            except OSError:  # nothing but holes from here on
                return
            position = os.lseek(self._fd, start, os.SEEK_HOLE)
            if start < self.capacity:
                yield start, min(position, self.capacity)

    def start_of(self, tensor: torch.Tensor) -> int:
        """The place of a tensor that lies in the mapping."""
        return tensor.data_ptr() - self.region.data_ptr()


def _units(size: int) -> int:
    return -(-size // _TEMPORARY_UNIT)


def _without(start: int, end: int, kept: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of `start .. end` beside ascending `kept` ranges."""
    for begin, size in kept:
        if begin > start:
            yield start, min(begin, end)
        start = max(start, begin + size)
        if start >= end:
            return
    yield start, end
