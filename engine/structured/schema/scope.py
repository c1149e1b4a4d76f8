"""Owns what all parts of one schema share: the rules, what was written already, and the way into schemas within."""

from collections.abc import Callable, Hashable
from typing import Protocol

from loraplex.engine.structure import StructureError
from loraplex.engine.structured import json_text
from loraplex.engine.structured.ebnf import Range, Rules
from loraplex.engine.structured.keywords import Json
from loraplex.engine.structured.schema.part import Part, error_at


class Read(Protocol):
    """Reads a schema."""

    def __call__(self, schema: Json, path: str, depth: int) -> str:
        """An expression for its values."""
        ...


class Scope:
    """Of one schema.

    Attributes:
        root: the schema as a whole.
        rules: those of its grammar.
        read: reads a schema within it.
    """

    def __init__(self, root: Json, rules: Rules, read: Read) -> None:
        self.root = root
        self.rules = rules
        self.read = read
        self._shapes: dict[Hashable, str] = {}
        self._spelled: dict[tuple[Range, ...], str] = {}

    def shape(self, key: Hashable, path: str, convert: Callable[[], str]) -> str:
        """The rule of what is converted once wherever it stands: schemas tend to repeat patterns and bounds."""
        if key not in self._shapes:
            try:
                expression = convert()
            except StructureError as error:
                raise error_at(path, str(error)) from None
            self._shapes[key] = self.rules.add("shape", expression)
        return self._shapes[key]

    def spell(self, ranges: list[Range]) -> str:
        """See `json_text.characters`."""
        key = tuple(ranges)
        if key not in self._spelled:
            self._spelled[key] = json_text.characters(ranges)
        return self._spelled[key]


class Reader(Protocol):
    """Reads schemas of one kind."""

    def __call__(self, part: Part, scope: Scope) -> str:
        """An expression for the values of a schema."""
        ...
