"""Owns JSON Schema as a grammar. What a grammar cannot say is refused by its keyword and place, never left out; where a
schema leaves a choice, the narrower is taken, so that every output is valid for the schema."""

import json
import math

from loraplex.engine.structure import StructureError
from loraplex.engine.structured import json_text
from loraplex.engine.structured.ebnf import Budget, Rules, choice
from loraplex.engine.structured.keywords import Json, check_keywords
from loraplex.engine.structured.schema.arrays import array
from loraplex.engine.structured.schema.combined import References, all_of, any_of, one_of
from loraplex.engine.structured.schema.constants import Constants
from loraplex.engine.structured.schema.numeric import integer, number
from loraplex.engine.structured.schema.objects import object_of
from loraplex.engine.structured.schema.part import Part, error_at
from loraplex.engine.structured.schema.scope import Reader, Scope
from loraplex.engine.structured.schema.strings import string

MAX_BYTES = 256 << 10
MAX_DEPTH = 32
# Of objects and arrays in the text: schemas within schemas take two each, and constants may be as deep again.
MAX_NESTING = 128
# Schemas within the schema; OpenAI's own limit is 5,000 properties.
MAX_SCHEMAS = 10_000


def schema_grammar(source: str, budget: Budget | None = None) -> str:
    """The grammar of a schema given as JSON text.

    Args:
        source: the schema.
        budget: what is left for this grammar and others that it becomes part of; None: it has one of its own.

    Raises:
        StructureError: the schema is malformed, too large, or beyond what is supported; the message names the place.
    """
    schema = read_json(source)
    rules = Rules(budget)
    reader = _SchemaReader(schema, rules)
    rules.set(rules.shared("root", ""), reader.read(schema, "", 0))
    return rules.text()


def read_json(source: str) -> Json:
    """A JSON text from a stranger.

    Raises:
        StructureError: it is too large, nested too deeply, or no JSON.
    """
    if len(source.encode()) > MAX_BYTES:
        raise StructureError(f"the schema has more than {MAX_BYTES >> 10} KiB.")
    try:
        value: Json = json.loads(source, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise StructureError("the schema is not readable as JSON.") from None
    if _is_deeper(value, MAX_NESTING):
        raise StructureError(f"the schema has more than {MAX_NESTING} brackets within brackets.")
    return value


class _SchemaReader:
    """Turns schemas into expressions, each by the reader of its kind."""

    def __init__(self, root: Json, rules: Rules) -> None:
        self._scope = Scope(root, rules, self.read)
        self._schemas = 0
        self._constants = Constants()
        self._combined: dict[str, Reader] = {
            "$ref": References(),
            "anyOf": any_of,
            "oneOf": one_of,
            "allOf": all_of,
        }
        self._types: dict[str, Reader] = {
            "null": lambda part, scope: '"null"',
            "boolean": lambda part, scope: json_text.boolean(scope.rules),
            "integer": integer,
            "number": number,
            "string": string,
            "array": array,
            "object": object_of,
        }

    def read(self, schema: Json, path: str, depth: int) -> str:
        """An expression for the values of a schema."""
        self._schemas += 1
        if self._schemas > MAX_SCHEMAS:
            raise StructureError(f"the schema has more than {MAX_SCHEMAS} schemas within it.")
        if depth > MAX_DEPTH:
            raise StructureError(f"{path}: more than {MAX_DEPTH} schemas within schemas.")
        if schema is True:
            return json_text.value(self._scope.rules)
        if schema is False:
            raise error_at(path, "false allows no value.")
        if not isinstance(schema, dict):
            raise error_at(path, "a schema is an object or a boolean.")
        check_keywords(schema, path)
        part = Part(schema, path, depth)
        for keyword, reader in self._combined.items():
            if keyword in schema:
                part.must_stand_alone(keyword)
                return reader(part, self._scope)
        if "const" in schema or "enum" in schema:
            return self._constants(part, self._scope)
        types = part.types()
        if types is None:
            return json_text.value(self._scope.rules)
        return choice(self._types[each](part, self._scope) for each in types)


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _is_deeper(value: Json, most: int) -> bool:
    """Whether objects and arrays lie within each other more than `most` times."""
    layer = [value]
    for _ in range(most + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)
