"""Owns reading a call that is written as a JSON object, `{"name": ..., "arguments": {...}}`, while it is being
written."""

import json
from enum import Enum, auto

from loraplex.platform.inference.tool_parsers.port import Arguments, Begin, Piece

_SPACE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")
# What models write beside a call's name and arguments. Any other key means that the object is no call.
_KEYS = ("name", "id", "type", *_ARGUMENTS)


class JsonValue:
    """Finds the end of one JSON value. Brackets and strings are followed; what lies between is not judged."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._scalar = False

    def feed(self, text: str, start: int) -> tuple[int, bool]:
        """Where in `text` from `start` the value's end or the end of the text is, and whether it is the value's."""
        for at in range(start, len(text)):
            char = text[at]
            if self._in_string:
                if self._read_in_string(char):
                    return at + 1, True
            elif self._scalar:
                if char in _SPACE or char in ",}]":
                    return at, True
            elif self._read(char):
                return at + 1, True
        return len(text), False

    def _read_in_string(self, char: str) -> bool:
        """Whether the value ends with this character of a string."""
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = False
            return self._depth == 0
        return False

    def _read(self, char: str) -> bool:
        """Whether the value ends with this character outside of strings."""
        if char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            return self._depth <= 0
        elif self._depth == 0:
            self._scalar = True
        return False


class _State(Enum):
    OPEN = auto()  # in front of the object
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    INSIDE = auto()  # a value
    COMMA = auto()
    DONE = auto()
    BROKEN = auto()


class JsonCall:
    """One call, or an object that turns out to be none. Arguments are handed on as they come once the name is known;
    where they come first, when the object ends.

    Attributes:
        begun: it is a call, and that was told.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._state = _State.OPEN
        self._raw: list[str] = []
        self.begun = False
        self._value = JsonValue()
        self._in_key = False
        self._key = ""
        self._start = 0  # of a key or a value, in `_raw`
        self._name: str | None = None
        self._kept: str | None = None  # arguments that wait for the name
        self._streaming = False

    @property
    def raw(self) -> str:
        """The object as far as it was read."""
        return "".join(self._raw)

    @property
    def done(self) -> bool:
        """The object has ended."""
        return self._state is _State.DONE

    @property
    def broken(self) -> bool:
        """It is no call; what follows is not for this reader."""
        return self._state is _State.BROKEN

    def feed(self, text: str) -> tuple[list[Piece], str]:
        """What `text` adds, and what of it comes after the object."""
        pieces: list[Piece] = []
        at = 0
        while at < len(text) and not (self.done or self.broken):
            at = self._inside(text, at, pieces) if self._busy else self._between(text, at, pieces)
        return pieces, text[at:]

    @property
    def _busy(self) -> bool:
        return self._in_key or self._state is _State.INSIDE

    def _between(self, text: str, at: int, pieces: list[Piece]) -> int:
        """One character between keys and values."""
        char, state = text[at], self._state
        if char in _SPACE:
            pass
        elif state is _State.OPEN and char == "{":
            self._state = _State.KEY
        elif state is _State.KEY and char == '"':
            self._begin_value()
            self._in_key = True
            return at
        elif state is _State.COLON and char == ":":
            self._state = _State.VALUE
        elif state is _State.VALUE and char not in ",:}]":
            return self._begin(char, at, pieces)
        elif state is _State.COMMA and char == ",":
            self._state = _State.KEY
        elif state in (_State.COMMA, _State.KEY) and char == "}":
            self._close(pieces)
            if self.broken:
                return at
        else:
            self._state = _State.BROKEN
            return at
        self._raw.append(char)
        return at + 1

    def _begin(self, char: str, at: int, pieces: list[Piece]) -> int:
        self._state = _State.INSIDE
        self._begin_value()
        if self._key in _ARGUMENTS and char == "{" and self._name is not None and not self.begun:
            self.begun = self._streaming = True
            pieces.append(Begin(self._name))
        return at

    def _begin_value(self) -> None:
        self._value, self._start = JsonValue(), len(self._raw)

    def _inside(self, text: str, at: int, pieces: list[Piece]) -> int:
        """The rest of a key or a value, as far as it is there."""
        end, complete = self._value.feed(text, at)
        self._raw.append(text[at:end])
        if self._streaming and end > at:
            pieces.append(Arguments(text[at:end]))
        if not complete:
            return end
        written = "".join(self._raw[self._start :])
        if self._in_key:
            self._in_key = False
            self._key = _text(written) or ""
            self._state = _State.COLON if self._key in _KEYS else _State.BROKEN
            return end
        self._state = _State.COMMA
        if self._streaming:
            self._streaming = False
        elif self._key == "name":
            self._name = _text(written)
            if self._name not in self._names:
                self._state = _State.BROKEN
        elif self._key in _ARGUMENTS and self._kept is None:
            self._kept = _object(written)
            if self._kept is None:
                self._state = _State.BROKEN
        return end

    def _close(self, pieces: list[Piece]) -> None:
        if self.begun:
            self._state = _State.DONE
        elif self._name is None:
            self._state = _State.BROKEN
        else:
            self._state, self.begun = _State.DONE, True
            pieces += [Begin(self._name), Arguments(self._kept or "{}")]


def _text(written: str) -> str | None:
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _object(written: str) -> str | None:
    """Arguments as JSON text: some models write them as a text with JSON in it, or null for none."""
    if written.startswith("{"):
        return written
    if written == "null":
        return "{}"
    inner = (_text(written) or "").strip()
    return inner if inner.startswith("{") else None
