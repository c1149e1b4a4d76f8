"""Owns calls as Hermes and Qwen models write them: `<tool_call>` around a JSON object."""

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

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# What models leave behind the object before they close the mark.
_LITTER = " \t\r\n}"


class HermesParser:
    """See `ToolParser`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._until = Until(OPEN)
        self._call: JsonCall | None = None
        self._behind: str | None = None  # what came behind an object that has ended
        self._called = False

    def feed(self, text: str) -> list[Piece]:
        """See `ToolParser.feed`."""
        pieces: list[Piece] = []
        while text:
            if self._call is not None:
                text = self._read_call(self._call, text, pieces)
            elif self._behind is not None:
                text = self._skip_close(self._behind + text)
            else:
                found = self._until.feed(text)
                text = found.rest
                if found.text:
                    pieces.append(Text(found.text))
                if found.mark is not None:
                    self._call = JsonCall(self._names)
        return pieces

    def end(self) -> list[Piece]:
        """See `ToolParser.end`."""
        if self._call is not None:
            return _unread(self._call)
        text = self._until.end()
        return [] if not text or (self._called and text.isspace()) else [Text(text)]

    def _read_call(self, call: JsonCall, text: str, pieces: list[Piece]) -> str:
        new, rest = call.feed(text)
        pieces += new
        if call.done or call.broken:
            pieces += _unread(call)
            self._called = self._called or call.begun
            self._call, self._behind = None, "" if call.begun else None
        return rest

    def _skip_close(self, text: str) -> str:
        """The text after a call's end mark; none while the mark may still be incomplete."""
        text = text.lstrip(_LITTER)
        if text != CLOSE and CLOSE.startswith(text):
            self._behind = text
            return ""
        self._behind = None
        return text.removeprefix(CLOSE)


def _unread(call: JsonCall) -> list[Piece]:
    """What was written of something that is no call."""
    return [] if call.begun else [Text(OPEN + call.raw)]


class Hermes:
    """See `ToolFormat`."""

    marks = (OPEN, CLOSE)
    opening = OPEN
    newer_mark = None

    def call_id(self, call_id: str) -> str:
        """See `ToolFormat.call_id`."""
        return call_id

    def parser(self, names: frozenset[str]) -> ToolParser:
        """See `ToolFormat.parser`."""
        return HermesParser(names)

    def forced(self, functions: Sequence[Function], *, newer: bool, single: bool) -> Json:
        """See `ToolFormat.forced`."""
        return in_row(_content(functions), f"\n{OPEN}", single=single)

    def strict(self, functions: Sequence[Function], *, single: bool) -> Json:
        """See `ToolFormat.strict`."""
        return anywhere(OPEN, _content(functions), single=single)


def _content(functions: Sequence[Function]) -> Json:
    """Everything behind the first mark."""
    return any_of(
        in_order(
            const(f'\n{{"name": "{function.name}", "arguments": '),
            arguments(function),
            const(f"}}\n{CLOSE}"),
        )
        for function in functions
    )
