"""Owns which fields there are: those of the types that the official clients, and this server, are written with.

A path names a field: `[]` follows what is a list, and `(kind)` what has several kinds, told apart by their `type`.
"""

import functools
import re
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import msgspec
import pydantic
from typing_extensions import get_type_hints, is_typeddict

Kind = Any  # a type, be it a class, a union or an alias
Json = Any
_LISTS = (list, Iterable, Sequence)
_WRAPPERS = (Annotated, Required, NotRequired)


def paths(kind: Kind, closed: Collection[str] = ()) -> set[str]:
    """Those of a kind of bodies, and nothing below those that are `closed`."""
    return set(_paths([kind], closed, "", frozenset()))


def seen(body: Json, known: Collection[str], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """The paths in a body with what is there. `known` tells which kinds are told apart."""
    if isinstance(body, dict):
        of_kind = f"{prefix}({body.get('type')})"
        tagged = of_kind in known
        if tagged:
            prefix = of_kind
            yield prefix, body
        if prefix and not any(path.startswith(f"{prefix}.") for path in known):
            return  # closed, or of any shape
        for name, value in body.items():
            if not (tagged and name == "type"):
                path = _join(prefix, name)
                yield path, value
                yield from seen(value, known, path)
    elif isinstance(body, list):
        for value in body:
            yield from seen(value, known, f"{prefix}[]")


def kinds_of(kind: Kind, path: str) -> list[str]:
    """The kinds of what is at a path."""
    begin = re.escape(path)
    found = (re.fullmatch(rf"{begin}\(([\w.]+)\)", each) for each in paths(kind))
    return sorted(each[1] for each in found if each)


def _paths(
    kinds: Iterable[Kind], closed: Collection[str], prefix: str, within: frozenset[Kind]
) -> Iterator[str]:
    """Those of whatever is one of `kinds`; `within` which others."""
    if prefix in closed:
        return
    members = [each for kind in kinds for each in _members(kind)]
    # What holds its own kind is told once.
    structs = [each for each in members if _fields(each) and each not in within]
    tags = [_tags(struct) for struct in structs]
    several = len({tag for each in tags for tag in each}) > 1 and all(tags)
    places: dict[str, list[Kind]] = {}
    for struct, own in zip(structs, tags, strict=True):
        for place in [f"{prefix}({tag})" for tag in own] if several else [prefix]:
            places.setdefault(place, []).append(struct)
    for place, those in places.items():
        if several:
            yield place
        if place not in closed:
            yield from _inside(those, closed, place, within, several=several)
    if items := [get_args(each)[0] for each in members if _is_list(each)]:
        yield from _paths(items, closed, f"{prefix}[]", within)


def _inside(
    structs: Iterable[Kind],
    closed: Collection[str],
    place: str,
    within: frozenset[Kind],
    *,
    several: bool,
) -> Iterator[str]:
    """Of classes whose fields are at one place; if there are `several` kinds, `type` is told by the place."""
    fields: dict[str, list[Kind]] = {}
    for struct in structs:
        for name, kind in _fields(struct).items():
            fields.setdefault(name, []).append(kind)
    for name, kinds in fields.items():
        if not (several and name == "type"):
            path = _join(place, name)
            yield path
            yield from _paths(kinds, closed, path, within | set(structs))


def _members(kind: Kind) -> Iterator[Kind]:
    """What a kind may be."""
    origin: Kind = get_origin(kind)
    if origin in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _members(each)
    elif origin in _WRAPPERS:
        yield from _members(get_args(kind)[0])
    else:
        yield kind


def _is_list(kind: Kind) -> bool:
    origin: Kind = get_origin(kind)
    # The last is OpenAI's own: a sequence that is no text.
    return origin in _LISTS or getattr(origin, "__name__", "") == "SequenceNotStr"


@functools.cache  # reading the hints of a class takes long, and some are met thousands of times
def _fields(kind: Kind) -> dict[str, Kind]:
    """Those of a class; none of what is no such class."""
    if is_typeddict(kind):
        return get_type_hints(kind, include_extras=True)
    if not isinstance(kind, type):
        return {}
    if issubclass(kind, pydantic.BaseModel):
        return {(of.alias or name): of.annotation for name, of in kind.model_fields.items()}
    if issubclass(kind, msgspec.Struct):
        return {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
    return {}


def _tags(kind: Kind) -> tuple[str, ...]:
    """What a class may have as `type`."""
    choices = _members(_fields(kind).get("type"))
    literals: Iterable[Kind] = (each for each in choices if str(each).startswith(str(Literal)))
    return tuple(tag for each in literals for tag in get_args(each))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
