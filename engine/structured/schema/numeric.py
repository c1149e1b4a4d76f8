"""Owns schemas of numbers."""

from loraplex.engine.structured import json_text
from loraplex.engine.structured.number_ranges import Bounds, numbers, whole, whole_numbers
from loraplex.engine.structured.schema.part import Part
from loraplex.engine.structured.schema.scope import Scope


def integer(part: Part, scope: Scope) -> str:
    """An expression for whole numbers."""
    if part.schema.get("multipleOf") == 1:
        rest = {key: each for key, each in part.schema.items() if key != "multipleOf"}
        part = part._replace(schema=rest)
    low, high, open_low, open_high = _bounds(part)
    if low is None and high is None:
        return json_text.integer(scope.rules)
    first = None if low is None else whole(low, up=True)
    last = None if high is None else whole(high, up=False)
    first = None if first is None else first + (open_low and first == low)
    last = None if last is None else last - (open_high and last == high)
    return scope.shape(("whole", first, last), part.path, lambda: whole_numbers(first, last))


def number(part: Part, scope: Scope) -> str:
    """An expression for any numbers."""
    low, high, open_low, open_high = _bounds(part)
    if low is None and high is None:
        return json_text.number(scope.rules)
    for bound in (low, high):
        if bound is not None and bound != int(bound):
            raise part.error("bounds of a number must be whole numbers.")
    bounds = Bounds(
        None if low is None else int(low), None if high is None else int(high), open_low, open_high
    )
    return scope.shape(("number", bounds), part.path, lambda: numbers(bounds))


def _bounds(part: Part) -> tuple[float | None, float | None, bool, bool]:
    """The lowest and the highest, and whether they themselves are outside."""
    if "multipleOf" in part.schema:
        raise part.error("not supported; list the values in enum.", "multipleOf")
    low, high = _bound(part, "minimum"), _bound(part, "maximum")
    above, below = _bound(part, "exclusiveMinimum"), _bound(part, "exclusiveMaximum")
    open_low = above is not None and (low is None or above >= low)
    open_high = below is not None and (high is None or below <= high)
    return above if open_low else low, below if open_high else high, open_low, open_high


def _bound(part: Part, keyword: str) -> float | None:
    value = part.schema.get(keyword)
    if value is None and keyword not in part.schema:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e18:
        raise part.error("give a number between -1e18 and 1e18.", keyword)
    return value
