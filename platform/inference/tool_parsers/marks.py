"""Owns looking for marks in text that comes in pieces."""

from typing import NamedTuple


class Found(NamedTuple):
    """Text that belongs to no mark, the mark behind it if one was found, and what comes after that."""

    text: str
    mark: str | None
    rest: str


class Until:
    """Hands text on up to the first of its marks. Kept back are an end that may begin a mark, and white space in front
    of it, which is dropped where a mark follows."""

    def __init__(self, *marks: str) -> None:
        self._marks = marks
        self._held = ""

    def feed(self, text: str) -> Found:
        """More text."""
        text, self._held = self._held + text, ""
        at, mark = min(
            ((at, mark) for mark in self._marks if (at := text.find(mark)) >= 0),
            default=(-1, None),
        )
        if mark is not None:
            return Found(text[:at].rstrip(), mark, text[at + len(mark) :])
        cut = len(text) - max(overlap(text, mark) for mark in self._marks)
        cut = len(text[:cut].rstrip())
        self._held = text[cut:]
        return Found(text[:cut], None, "")

    def end(self) -> str:
        """What was kept back: there will be no mark."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark` and is not all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
