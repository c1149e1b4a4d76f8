"""Owns schemas that list their values: `const` and `enum`."""

import json

from loraplex.engine.structure import StructureError
from loraplex.engine.structured import json_text
from loraplex.engine.structured.ebnf import choice
from loraplex.engine.structured.keywords import Json
from loraplex.engine.structured.schema.part import Part
from loraplex.engine.structured.schema.scope import Scope

MAX_VALUES = 10_000  # of one schema, in all
_KINDS = {"null": type(None), "boolean": bool, "string": str, "array": list, "object": dict}


class Constants:
    """Reads them, and counts the values."""

    def __init__(self) -> None:
        self._values = 0

    def __call__(self, part: Part, scope: Scope) -> str:
        """An expression for the values."""
        schema = part.schema
        part.must_stand_alone("const" if "const" in schema else "enum", "type", "enum", "const")
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list) or not values:
            raise part.error("give a list of values.", "enum")
        if "const" in schema:
            values = [each for each in values if _text(each) == _text(schema["const"])]
        if "type" in schema:
            types = part.types() or []
            values = [each for each in values if any(_is(each, name) for name in types)]
        if not values:
            raise part.error("no value of enum or const has the type.")
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise StructureError(f"the schema lists more than {MAX_VALUES} values.")
        unique = {_text(each): each for each in values}
        return choice(json_text.constant(scope.rules, each) for each in unique.values())


def _is(value: Json, name: str) -> bool:
    if name in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return name == "number" or value == int(value)
    return isinstance(value, _KINDS[name])


def _text(value: Json) -> str:
    return json.dumps(value, sort_keys=True)
