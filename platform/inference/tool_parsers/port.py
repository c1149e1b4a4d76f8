"""Owns what a way of writing function calls is to the rest: a parser of text, and the language of forced calls."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Json = dict[str, object]


class Text(NamedTuple):
    """What belongs to no call."""

    text: str


class Begin(NamedTuple):
    """A call of a function begins."""

    name: str


class Arguments(NamedTuple):
    """More of the arguments of the call that began last."""

    text: str


Piece = Text | Begin | Arguments


class Function(NamedTuple):
    """A function that may be called; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: object


class ToolParser(Protocol):
    """Reads the text of one answer."""

    def feed(self, text: str) -> list[Piece]:
        """What more text tells for sure; half a mark is kept until it is clear whether it is one."""
        ...

    def end(self) -> list[Piece]:
        """What was kept."""
        ...


class ToolFormat(Protocol):
    """A way to write calls.

    Attributes:
        marks: what belongs to calls and may be a special token, which would otherwise not be shown.
        opening: the mark every call begins with; "" if there is none.
        newer_mark: the special token of tokenizers whose models write calls in a newer form, if there is one.
    """

    @property
    def marks(self) -> tuple[str, ...]: ...

    @property
    def opening(self) -> str: ...

    @property
    def newer_mark(self) -> str | None: ...

    def call_id(self, call_id: str) -> str:
        """A call's id as such a model knows it."""
        ...

    def parser(self, names: frozenset[str]) -> ToolParser:
        """A parser that takes for calls what calls one of `names`."""
        ...

    def forced(self, functions: Sequence[Function], *, newer: bool, single: bool) -> Json:
        """The language of calls and nothing else, at least one, behind the opening of the first; as a format of
        structural tags. `newer` is the form of tokenizers that have `newer_mark`."""
        ...

    def strict(self, functions: Sequence[Function], *, single: bool) -> Json:
        """The language of any text with calls whose arguments fit their schemas. Only for tokenizers to which the
        opening is text."""
        ...
