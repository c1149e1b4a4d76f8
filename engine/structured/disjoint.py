"""Owns telling that no value fits two schemas, as far as types and constants show it."""

import json
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

from loraplex.engine.structured.keywords import Json, Schema


def are_disjoint(schemas: list[Json], look_up: Callable[[str], Json]) -> bool:
    """Whether no value fits two of these; False if that cannot be seen.

    Args:
        schemas: the schemas.
        look_up: what a reference stands for.
    """
    found = [_seen(each, look_up) for each in schemas]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return False
    return all(_apart(a, b) for a, b in combinations(known, 2))


def _followed(schema: Json, look_up: Callable[[str], Json]) -> Schema | None:
    for _ in range(8):
        if not isinstance(schema, dict):
            return None
        ref = schema.get("$ref")
        if not isinstance(ref, str):
            return schema
        schema = look_up(ref)
    return None


class _Seen(NamedTuple):
    """What tells a schema apart from others.

    Attributes:
        constants: the only values that fit, as text; None if they are not listed.
        types: those of the values; None if any.
        demanded: constants of the properties that objects must have, as far as these are listed.
    """

    constants: frozenset[str] | None
    types: frozenset[str] | None
    demanded: dict[str, frozenset[str]]


def _seen(schema: Json, look_up: Callable[[str], Json]) -> _Seen | None:
    found = _followed(schema, look_up)
    if found is None:
        return None
    demanded = {}
    for name in _required(found):
        value = _followed(_property(found, name), look_up)
        if value is not None and (constants := _constants(value)) is not None:
            demanded[name] = constants
    return _Seen(_constants(found), _types(found), demanded)


def _apart(a: _Seen, b: _Seen) -> bool:
    if a.constants is not None and b.constants is not None:
        return a.constants.isdisjoint(b.constants)
    if a.types is not None and b.types is not None:
        if a.types.isdisjoint(b.types):
            return True
        if a.types | b.types == {"object"}:
            both = a.demanded.keys() & b.demanded.keys()
            return any(a.demanded[name].isdisjoint(b.demanded[name]) for name in both)
    return False


def _property(schema: Schema, name: str) -> Json:
    properties = schema.get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def _required(schema: Schema) -> set[str]:
    names = schema.get("required")
    return {each for each in names if isinstance(each, str)} if isinstance(names, list) else set()


def _constants(schema: Schema) -> frozenset[str] | None:
    """As text; numbers that are equal look equal."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return frozenset(map(_text, values)) if isinstance(values, list) else None


def _text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _types(schema: Schema) -> frozenset[str] | None:
    """Of the schema, or of its constants; whole numbers are numbers."""
    wanted = schema.get("type")
    if wanted is None:
        if (values := _constants(schema)) is None:
            return None
        names = [_type(json.loads(each)) for each in values]
    else:
        names = [str(each) for each in wanted] if isinstance(wanted, list) else [str(wanted)]
    return frozenset("number" if name == "integer" else name for name in names)


def _type(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"
