"""Owns the pieces that languages of calls are put together from, as formats of structural tags."""

from collections.abc import Iterable

from loraplex.platform.inference.tool_parsers.port import Function, Json


def const(text: str) -> Json:
    """Exactly this text."""
    return {"type": "const_string", "value": text}


def arguments(function: Function) -> Json:
    """Arguments that a function takes."""
    return {"type": "json_schema", "json_schema": function.parameters}


def in_order(*parts: Json) -> Json:
    """One after another."""
    return {"type": "sequence", "elements": list(parts)}


def any_of(options: Iterable[Json]) -> Json:
    """One of several."""
    elements = list(options)
    return elements[0] if len(elements) == 1 else {"type": "or", "elements": elements}


def in_row(call: Json, separator: str, *, single: bool) -> Json:
    """One call, or more unless it is to be a `single` one."""
    if single:
        return call
    return in_order(call, {"type": "star", "content": in_order(const(separator), call)})


def anywhere(begin: str, content: Json, *, single: bool) -> Json:
    """Any text, in which `begin` is followed by `content`; a `single` one is the end of it."""
    return {"type": "dispatch", "rules": [[begin, content]], "loop": not single}
