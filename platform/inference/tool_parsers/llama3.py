"""Owns calls as Llama 3 models write them: the whole answer is a JSON object, or several with `;` between them, and a
special token may come in front."""

from collections.abc import Sequence

from loraplex.platform.inference.tool_parsers.grammars import (
    any_of,
    anywhere,
    arguments,
    const,
    in_order,
    in_row,
)
from loraplex.platform.inference.tool_parsers.json_call import JsonCall
from loraplex.platform.inference.tool_parsers.marks import Until
from loraplex.platform.inference.tool_parsers.port import Function, Json, Piece, Text, ToolParser

MARK = "<|python_tag|>"
# What stands between calls.
_BETWEEN = " \t\r\n;,"
_BEGIN = '{"name": "'


class Llama3Parser:
    """See `ToolParser`. Calls are looked for at the beginning, behind the mark and behind another call."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._until = Until(MARK)
        self._front: str | None = ""  # what was written where a call may begin; None elsewhere
        self._blanks: list[str] = []  # behind it; they decide nothing, and there can be any number
        self._call: JsonCall | None = None
        self._called = False

    def feed(self, text: str) -> list[Piece]:
        """See `ToolParser.feed`."""
        pieces: list[Piece] = []
        while text:
            if self._call is not None:
                text = self._read_call(self._call, text, pieces)
            elif self._front is not None:
                text = self._look(self._front, text, pieces)
            else:
                found = self._until.feed(text)
                if found.text:
                    pieces.append(Text(found.text))
                text = found.rest
                if found.mark is not None:
                    self._front = MARK
        return pieces

    def end(self) -> list[Piece]:
        """See `ToolParser.end`."""
        if self._call is not None:
            return self._unread(self._call)
        front = None if self._front is None else "".join((self._front, *self._blanks))
        text = self._until.end() if front is None else front
        return [] if not text or (self._called and not text.strip(_BETWEEN)) else [Text(text)]

    def _look(self, front: str, text: str, pieces: list[Piece]) -> str:
        """Begin a call where `text` does; what remains to be read. Nothing, while it is not clear."""
        if not text.strip(_BETWEEN if self._called and not front else None):
            self._blanks.append(text)
            return ""
        text = "".join((front, *self._blanks, text))
        self._blanks = []
        start = text.lstrip(_BETWEEN if self._called else None)
        inner = start.removeprefix(MARK).lstrip()
        if not inner or (len(start) < len(MARK) and MARK.startswith(start)):
            self._front = text
            return ""
        if inner.startswith("{"):
            self._front = text[: len(text) - len(inner)]
            self._call = JsonCall(self._names)
            return inner
        self._front = None
        if not start.startswith(MARK):
            return text
        # No call follows the mark, so it is text; left where it is, it would be found again.
        pieces.append(Text(text[: len(text) - len(inner)]))
        return inner

    def _read_call(self, call: JsonCall, text: str, pieces: list[Piece]) -> str:
        new, rest = call.feed(text)
        pieces += new
        if call.done or call.broken:
            pieces += self._unread(call)
            self._called = self._called or call.begun
            self._call, self._front = None, "" if call.begun else None
        return rest

    def _unread(self, call: JsonCall) -> list[Piece]:
        """What was written of something that is no call."""
        return [] if call.begun else [Text((self._front or "") + call.raw)]


class Llama3:
    """See `ToolFormat`."""

    marks = (MARK,)
    opening = ""
    newer_mark = None

    def call_id(self, call_id: str) -> str:
        """See `ToolFormat.call_id`."""
        return call_id

    def parser(self, names: frozenset[str]) -> ToolParser:
        """See `ToolFormat.parser`."""
        return Llama3Parser(names)

    def forced(self, functions: Sequence[Function], *, newer: bool, single: bool) -> Json:
        """See `ToolFormat.forced`."""
        return in_row(in_order(const(_BEGIN), _content(functions)), "; ", single=single)

    def strict(self, functions: Sequence[Function], *, single: bool) -> Json:
        """See `ToolFormat.strict`. The mark cannot come in front of these calls."""
        return anywhere(_BEGIN, _content(functions), single=single)


def _content(functions: Sequence[Function]) -> Json:
    """Everything from a call's name on."""
    return any_of(
        in_order(const(f'{function.name}", "parameters": '), arguments(function), const("}"))
        for function in functions
    )
