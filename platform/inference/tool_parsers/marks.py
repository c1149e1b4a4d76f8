"""Owns looking for marks in text that comes in pieces."""

from typing import NamedTuple


class Found(NamedTuple):
    """Text that belongs to no mark, the mark behind it if one was found, and what comes after that."""

    text: str
    mark: str | None
    rest: str


class Until:
    """Hands text on up to the first of its marks, which have no white space in them. Kept back are an end that may
    begin a mark, and white space in front of it, which is dropped where a mark follows."""

    def __init__(self, *marks: str) -> None:
        self._marks = marks
        self._spaces: list[str] = []  # there can be any number: looked at once, when they come
        self._held = ""

    def feed(self, text: str) -> Found:
        """More text."""
        text, self._held = self._held + text, ""
        at, mark = min(
            ((at, mark) for mark in self._marks if (at := text.find(mark)) >= 0),
            default=(-1, None),
        )
        if mark is not None:
            before = self._behind_spaces(text[:at].rstrip())
            self._spaces = []
            return Found(before, mark, text[at + len(mark) :])
        cut = len(text) - max(overlap(text, mark) for mark in self._marks)
        said, self._held = text[:cut].rstrip(), text[cut:]
        before = self._behind_spaces(said)
        self._spaces.append(text[len(said) : cut])
        return Found(before, None, "")

    def end(self) -> str:
        """What was kept back: there will be no mark."""
        held = "".join((*self._spaces, self._held))
        self._spaces, self._held = [], ""
        return held

    def _behind_spaces(self, text: str) -> str:
        """Text with the white space that was kept back in front of it; that stays kept if there is no text."""
        if not text:
            return ""
        text = "".join((*self._spaces, text))
        self._spaces = []
        return text


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark` and is not all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
