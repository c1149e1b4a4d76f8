"""Owns schemas of arrays."""

from loraplex.engine.structured import json_text
from loraplex.engine.structured.ebnf import repeat
from loraplex.engine.structured.keywords import Json
from loraplex.engine.structured.schema.part import Part
from loraplex.engine.structured.schema.scope import Scope


def array(part: Part, scope: Scope) -> str:
    """An expression for arrays."""
    first: list[Json] = part.schemas("prefixItems") if "prefixItems" in part.schema else []
    low = part.amount("minItems") or 0
    high = part.amount("maxItems")
    items = part.schema.get("items", True)
    if items is False:
        high = len(first) if high is None else min(high, len(first))
    part.check_range(low, high, "Items")
    parts = [
        scope.read(each, f"{part.path}.prefixItems[{i}]", part.depth + 1)
        for i, each in enumerate(first[:high])
    ]
    gap = json_text.space(scope.rules)
    body = ""
    left = None if high is None else high - len(parts)
    if left is None or left > 0:
        item = scope.rules.add("item", scope.read(items, f"{part.path}.items", part.depth + 1))
        another = f'({gap} "," {gap} {item})'
        least = max(0, low - len(parts))
        # The first element of all has no comma in front of it.
        if parts:
            body = repeat(another, least, left)
        else:
            rest = repeat(another, max(0, least - 1), None if left is None else left - 1)
            body = f"({item} {rest})" + ("" if least else "?")
    for i in range(len(parts) - 1, -1, -1):
        comma = f'{gap} "," {gap} ' if i else ""
        body = f"({comma}{parts[i]} {body})" + ("" if i < low else "?")
    return f'("[" {gap} {body} {gap} "]")'
