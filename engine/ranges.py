"""Owns first-fit allocation of ranges out of `0 .. size`, for table entries and arena pages."""


class RangeAllocator:
    """Hands out ranges of integers; freed neighbours merge again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = (
            [(0, size)] if size else []
        )  # (start, length), ascending

    @property
    def num_free(self) -> int:
        return sum(length for _, length in self._free)

    def take(self, length: int) -> int | None:
        """Start of a free range of `length`, None if no gap is that long."""
        for index, (start, available) in enumerate(self._free):
            if available >= length:
                rest = [(start + length, available - length)] if available > length else []
                self._free[index : index + 1] = rest
                return start
        return None

    def give(self, start: int, length: int) -> None:
        """Return a range that `take` handed out."""
        if length == 0:
            return
        merged: list[tuple[int, int]] = []
        for begin, size in sorted([*self._free, (start, length)]):
            if merged and merged[-1][0] + merged[-1][1] == begin:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((begin, size))
        self._free = merged
