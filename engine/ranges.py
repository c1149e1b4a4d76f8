"""Owns allocation of ranges out of `0 .. size`, for table entries and arena pages: adjacent numbers from the low end,
single ones from the high end."""

from bisect import bisect_left

# Gaps that are looked at for one that holds a whole request before it is put together from several. In a full arena
# there may be thousands, and adjacency is worth microseconds only.
_MOST_GAPS = 256


class RangeAllocator:
    """Hands out ranges of integers; freed neighbours merge again.

    Attributes:
        size: how many numbers there are.
        num_free: how many of them are free.
    """

    def __init__(self, size: int) -> None:
        self.size = self.num_free = size
        self._starts = [0] if size else []  # of the gaps, ascending
        self._lengths = {0: size} if size else {}

    def take(self, length: int) -> int | None:
        """Start of the lowest free range of `length`, None if no gap is that long."""
        for index, start in enumerate(self._starts):
            if self._lengths[start] >= length:
                self._cut(index, length)
                return start
        return None

    def take_pieces(self, count: int) -> list[int]:
        """`count` numbers, at most `num_free`, from the low end: adjacent where a gap near it is long enough."""
        lengths = self._lengths
        fitting = (i for i, s in enumerate(self._starts[:_MOST_GAPS]) if lengths[s] >= count)
        index = next(fitting, 0)
        taken: list[int] = []
        while len(taken) < count:
            start = self._starts[index]
            length = min(lengths[start], count - len(taken))
            self._cut(index, length)
            taken += range(start, start + length)
        return taken

    def take_last(self, count: int) -> list[int]:
        """The highest `count` free numbers, at most `num_free`, descending."""
        taken: list[int] = []
        while len(taken) < count:
            start = self._starts[-1]
            end = start + self._lengths[start]
            begin = max(start, end - (count - len(taken)))
            taken += range(end - 1, begin - 1, -1)
            if begin == start:
                del self._lengths[self._starts.pop()]
            else:
                self._lengths[start] = begin - start
        self.num_free -= count
        return taken

    def give(self, start: int, length: int = 1) -> None:
        """Return a range of numbers that are taken."""
        if length == 0:
            return
        self.num_free += length
        starts, lengths = self._starts, self._lengths
        at = bisect_left(starts, start)
        if at < len(starts) and starts[at] == start + length:
            length += lengths.pop(starts[at])
            del starts[at]
        if at and starts[at - 1] + lengths[starts[at - 1]] == start:
            lengths[starts[at - 1]] += length
        else:
            starts.insert(at, start)
            lengths[start] = length

    def free(self) -> list[int]:
        """Every free number, ascending; for checks."""
        return [n for start in self._starts for n in range(start, start + self._lengths[start])]

    def _cut(self, index: int, length: int) -> None:
        """Take the beginning of a gap."""
        start = self._starts[index]
        rest = self._lengths.pop(start) - length
        if rest:
            self._starts[index] = start + length
            self._lengths[start + length] = rest
        else:
            del self._starts[index]
        self.num_free -= length


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Index ranges (begin, end) of `numbers` that follow each other."""
    found: list[tuple[int, int]] = []
    for index, number in enumerate(numbers):
        if found and numbers[found[-1][1] - 1] + 1 == number:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found
