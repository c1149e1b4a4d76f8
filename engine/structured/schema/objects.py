"""Owns schemas of objects."""

from loraplex.engine.structured.objects import Entries, entries
from loraplex.engine.structured.schema.part import Part, texts
from loraplex.engine.structured.schema.scope import Scope


def object_of(part: Part, scope: Scope) -> str:
    """An expression for objects."""
    properties = part.schema.get("properties", {})
    if not isinstance(properties, dict):
        raise part.error("give an object of schemas.", "properties")
    required = texts(part.schema.get("required", []))
    if required is None:
        raise part.error("give a list of names.", "required")
    for name in required:
        if name not in properties:
            raise part.error(f"{name[:80]!r} is not among the properties.", "required")
    # Without a word on others only the named ones are written.
    more = part.schema.get("additionalProperties", not properties)
    low = part.amount("minProperties") or 0
    high = part.amount("maxProperties")
    if (high is not None and properties) or low > max(len(required), not properties):
        raise part.error(
            "minProperties and maxProperties are supported only without properties, minProperties up to 1."
        )
    part.check_range(low, high, "Properties")
    values = {
        name: scope.rules.add(
            "value", scope.read(each, f"{part.path}.properties.{name}", part.depth + 1)
        )
        for name, each in properties.items()
        if each is not False or name in required
    }
    others = None
    if more is not False:
        where = f"{part.path}.additionalProperties"
        others = scope.rules.add("value", scope.read(more, where, part.depth + 1))
    wanted = Entries(values, frozenset(required), frozenset(properties), others, low, high)
    return entries(scope.rules, wanted)
