"""Owns schemas of strings."""

from loraplex.engine.structured import json_text
from loraplex.engine.structured.formats import FORMATS
from loraplex.engine.structured.patterns import within_text
from loraplex.engine.structured.schema.part import Part
from loraplex.engine.structured.schema.scope import Scope

# Of minLength and maxLength; see `ebnf.MAX_STATES`, which holds for all of a schema's strings together.
MAX_LENGTH = 100


def string(part: Part, scope: Scope) -> str:
    """An expression for strings."""
    low, high = part.amount("minLength"), part.amount("maxLength")
    shapes = [each for each in ("pattern", "format") if each in part.schema]
    if len(shapes) > 1 or (shapes and (low or high is not None)):
        raise part.error(
            "not supported together with minLength, maxLength, pattern or format; say it all in one pattern.",
            shapes[0],
        )
    if shapes:
        return _shaped(part, shapes[0], scope)
    if not low and high is None:
        return json_text.text_of(scope.rules)
    part.check_range(low, high, "Length")
    if max(low or 0, high or 0) > MAX_LENGTH:
        raise part.error(
            f"strings of bounded length have at most {MAX_LENGTH} characters; leave it out.",
            "maxLength" if high is not None else "minLength",
        )
    return json_text.bounded_text_of(scope.rules, low or 0, high)


def _shaped(part: Part, keyword: str, scope: Scope) -> str:
    pattern = part.schema[keyword]
    if not isinstance(pattern, str):
        raise part.error("give a string.", keyword)
    if keyword == "format":
        if pattern not in FORMATS:
            known = ", ".join(FORMATS)
            raise part.error(f"{pattern[:40]!r} is not supported; these are: {known}.", keyword)
        pattern = FORMATS[pattern]

    def convert() -> str:
        anything = json_text.text(scope.rules)
        return f'("\\"" {within_text(pattern, scope.rules.budget, scope.spell, anything)} "\\"")'

    return scope.shape(("string", pattern), f"{part.path}.{keyword}", convert)
