"""Owns telling that no value fits two schemas, as far as types and constants show it."""

import json
from collections.abc import Callable
from itertools import combinations

from loraplex.engine.structured.keywords import Json, Schema


def are_disjoint(schemas: list[Json], look_up: Callable[[str], Json]) -> bool:
    """Whether no value fits two of these; False if that cannot be seen.

    Args:
        schemas: the schemas.
        look_up: what a reference stands for.
    """
    found = [_followed(each, look_up) for each in schemas]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return False
    return all(_apart(a, b, look_up) for a, b in combinations(known, 2))


def _followed(schema: Json, look_up: Callable[[str], Json]) -> Schema | None:
    for _ in range(8):
        if not isinstance(schema, dict):
            return None
        ref = schema.get("$ref")
        if not isinstance(ref, str):
            return schema
        schema = look_up(ref)
    return None


def _apart(a: Schema, b: Schema, look_up: Callable[[str], Json]) -> bool:
    if (mine := _constants(a)) is not None and (other := _constants(b)) is not None:
        return not mine & other
    if (types := _types(a)) is not None and (others := _types(b)) is not None:
        if not types & others:
            return True
        if types | others == {"object"}:
            return any(_apart_at(a, b, name, look_up) for name in _required(a) & _required(b))
    return False


def _apart_at(a: Schema, b: Schema, name: str, look_up: Callable[[str], Json]) -> bool:
    """Whether the property of this name, which both demand, cannot be the same."""
    mine = _followed(_property(a, name), look_up)
    other = _followed(_property(b, name), look_up)
    if mine is None or other is None:
        return False
    values, others = _constants(mine), _constants(other)
    return values is not None and others is not None and not values & others


def _property(schema: Schema, name: str) -> Json:
    properties = schema.get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def _required(schema: Schema) -> set[str]:
    names = schema.get("required")
    return {each for each in names if isinstance(each, str)} if isinstance(names, list) else set()


def _constants(schema: Schema) -> set[str] | None:
    """As text; numbers that are equal look equal."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return {_text(each) for each in values} if isinstance(values, list) else None


def _text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _types(schema: Schema) -> set[str] | None:
    """Of the schema, or of its constants; whole numbers are numbers."""
    wanted = schema.get("type")
    if wanted is None:
        if (values := _constants(schema)) is None:
            return None
        names = [_type(json.loads(each)) for each in values]
    else:
        names = [str(each) for each in wanted] if isinstance(wanted, list) else [str(wanted)]
    return {"number" if name == "integer" else name for name in names}


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
