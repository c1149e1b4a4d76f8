"""Owns calls as Mistral models write them: behind a mark a JSON array of objects, or, since version 11 of their
tokenizer, a name and its arguments."""

import hashlib
import re
from collections.abc import Sequence
from enum import Enum, auto

from loraplex.platform.inference.tool_parsers.grammars import (
    any_of,
    anywhere,
    arguments,
    const,
    in_order,
    in_row,
)
from loraplex.platform.inference.tool_parsers.json_call import JsonCall, JsonValue
from loraplex.platform.inference.tool_parsers.marks import Until, overlap
from loraplex.platform.inference.tool_parsers.port import (
    Arguments,
    Begin,
    Function,
    Json,
    Piece,
    Text,
    ToolParser,
)

MARK, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_SPACE = " \t\r\n"
_CALL_ID = re.compile("[A-Za-z0-9]{9}")
# What may stand between the objects of an array.
_BETWEEN = " \t\r\n,"


class _State(Enum):
    TEXT = auto()
    HEAD = auto()  # behind the mark: an array, or a name
    OBJECT = auto()
    NEXT = auto()  # behind an object
    VALUE = auto()  # arguments behind a name


class MistralParser:
    """See `ToolParser`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._until = Until(MARK)
        self._state = _State.TEXT
        self._written = ""  # from the mark on, until a call has begun
        self._blanks: list[str] = []  # behind it; they decide nothing, and there can be any number
        self._call = JsonCall(names)
        self._value = JsonValue()
        self._called = False

    def feed(self, text: str) -> list[Piece]:
        """See `ToolParser.feed`."""
        pieces: list[Piece] = []
        while text:
            match self._state:
                case _State.TEXT:
                    text = self._read_text(text, pieces)
                case _State.HEAD:
                    text = self._read_head(text, pieces)
                case _State.OBJECT:
                    text = self._read_object(text, pieces)
                case _State.NEXT:
                    text = self._read_next(text)
                case _State.VALUE:
                    end, complete = self._value.feed(text, 0)
                    pieces.append(Arguments(text[:end]))
                    self._state = _State.TEXT if complete else self._state
                    text = text[end:]
        return pieces

    def end(self) -> list[Piece]:
        """See `ToolParser.end`."""
        if self._state is _State.HEAD:
            return [Text("".join((self._written, *self._blanks)))]
        if self._state is _State.OBJECT:
            return self._unread()
        text = self._until.end()
        return [] if not text or (self._called and text.isspace()) else [Text(text)]

    def _read_text(self, text: str, pieces: list[Piece]) -> str:
        found = self._until.feed(text)
        if found.text:
            pieces.append(Text(found.text))
        if found.mark is not None:
            self._state, self._written = _State.HEAD, MARK
        return found.rest

    def _read_head(self, text: str, pieces: list[Piece]) -> str:
        if text.isspace():
            self._blanks.append(text)
            return ""
        before, text = self._written, "".join((*self._blanks, text))
        self._blanks = []
        self._written += text
        head = self._written.removeprefix(MARK).lstrip(_SPACE)
        if not head:
            return ""
        if head[0] in "[{":
            front = len(self._written) - len(head) + (head[0] == "[")
            rest = self._written[front:]
            self._written = self._written[:front]
            self._state, self._call = _State.OBJECT, JsonCall(self._names)
            return rest
        name, sep, rest = head.partition(ARGS)
        name = name.partition(CALL_ID)[0].strip(_SPACE)
        value = rest.lstrip(_SPACE)
        if sep and name in self._names and value.startswith("{"):
            pieces += [Begin(name)]
            self._state, self._value, self._called = _State.VALUE, JsonValue(), True
            return value
        if (sep and name in self._names and not value) or (not sep and self._may_be_name(head)):
            return ""
        # No call: only the mark itself is surely past, the rest may hold another one.
        self._state = _State.TEXT
        pieces.append(Text(MARK))
        return before.removeprefix(MARK) + text

    def _may_be_name(self, head: str) -> bool:
        """Whether what was written so far may become the name of a function and the mark behind it."""
        name, sep, _ = head.partition(CALL_ID)
        if sep:
            return name.strip(_SPACE) in self._names and len(head) < 200
        name = head[: len(head) - max(overlap(head, ARGS), overlap(head, CALL_ID))]
        if name == head:
            return any(own.startswith(name) for own in self._names) or name.rstrip() in self._names
        return name.rstrip(_SPACE) in self._names

    def _read_object(self, text: str, pieces: list[Piece]) -> str:
        new, rest = self._call.feed(text)
        pieces += new
        self._called = self._called or self._call.begun
        if self._call.done:
            self._state = _State.NEXT
        elif self._call.broken:
            pieces += self._unread()
            self._state = _State.TEXT
        if self._call.begun:
            self._written = ""
        return rest

    def _read_next(self, text: str) -> str:
        text = text.lstrip(_BETWEEN)
        if not text:
            return ""
        if text[0] == "{":
            self._state, self._call = _State.OBJECT, JsonCall(self._names)
            return text
        self._state = _State.TEXT
        return text.removeprefix("]")

    def _unread(self) -> list[Piece]:
        """What was written of something that is no call."""
        return [] if self._call.begun else [Text(self._written + self._call.raw)]


class Mistral:
    """See `ToolFormat`. Its newer form is the one of tokenizers that have the mark in front of arguments."""

    marks = (MARK, CALL_ID, ARGS)
    opening = MARK
    newer_mark = ARGS

    def call_id(self, call_id: str) -> str:
        """Nine letters and digits: templates refuse any other."""
        if _CALL_ID.fullmatch(call_id) is not None:
            return call_id
        return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]

    def parser(self, names: frozenset[str]) -> ToolParser:
        """See `ToolFormat.parser`."""
        return MistralParser(names)

    def forced(self, functions: Sequence[Function], *, newer: bool, single: bool) -> Json:
        """See `ToolFormat.forced`."""
        if newer:
            return in_row(_named(functions), MARK, single=single)
        return _array(functions, single=single)

    def strict(self, functions: Sequence[Function], *, single: bool) -> Json:
        """See `ToolFormat.strict`."""
        return anywhere(MARK, _array(functions, single=single), single=single)


def _named(functions: Sequence[Function]) -> Json:
    return any_of(
        in_order(const(f"{function.name}{ARGS}"), arguments(function)) for function in functions
    )


def _array(functions: Sequence[Function], *, single: bool) -> Json:
    call = any_of(
        in_order(
            const(f'{{"name": "{function.name}", "arguments": '),
            arguments(function),
            const("}"),
        )
        for function in functions
    )
    return in_order(const("["), in_row(call, ", ", single=single), const("]"))
