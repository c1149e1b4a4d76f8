"""Owns the entries of an object as a grammar: named ones in the order of the schema, then others."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from loraplex.engine.structure import StructureError
from loraplex.engine.structured import json_text
from loraplex.engine.structured.ebnf import Range, Rules, choice, literal, one_of, repeat, without

# Where others are allowed: each character of a name is a rule, and the library follows them one within the other.
MAX_NAME = 256
# Of properties in a row that may be left out: the library tries each as the next. 200 compile in 0.4 s and take 8 ms a
# step, 600 take 4 s and 22 ms, 2,000 took all memory.
MAX_OPTIONAL = 256
# Names of entries are written as they are: an escape could spell one that is taken.
_PLAIN: list[Range] = without([(0, 0x10FFFF)], [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])


class Entries(NamedTuple):
    """What an object holds.

    Attributes:
        values: rules of the values by name, in order.
        required: names that must be there.
        taken: names that `others` must not have.
        others: rule of the values of further entries; None if there are none.
        low, high: how many of the others.
    """

    values: dict[str, str]
    required: frozenset[str]
    taken: frozenset[str]
    others: str | None
    low: int = 0
    high: int | None = None


def entries(rules: Rules, wanted: Entries) -> str:
    """An expression for the object."""
    _check_optional(wanted)
    gap = json_text.space(rules)
    comma = f'{gap} "," {gap}'
    # Two rules from each entry on: for when it would be the first, and for when others stand before it.
    first, later = _others(rules, wanted, gap)
    for name, value in reversed(wanted.values.items()):
        entry = f"{literal(json.dumps(name, ensure_ascii=False) + ':')} {gap} {value}"
        after = rules.add("later", later)
        if name in wanted.required:
            first, later = f"{entry} {after}", f"{comma} {entry} {after}"
        else:
            alone = rules.add("first", first)
            first, later = f"({entry} {after} | {alone})", f"({comma} {entry})? {after}"
    return f'("{{" {gap} {first} {gap} "}}")'


def _check_optional(wanted: Entries) -> None:
    run = 0
    for name in wanted.values:
        run = 0 if name in wanted.required else run + 1
        if run > MAX_OPTIONAL:
            raise StructureError(
                f"an object has more than {MAX_OPTIONAL} properties in a row that are not required; require some."
            )


def _others(rules: Rules, wanted: Entries, gap: str) -> tuple[str, str]:
    """Further entries when none stands before them, and when some do."""
    if wanted.others is None or wanted.high == 0:
        return '""', '""'
    name = _name(rules, wanted.taken)
    entry = rules.add("entry", f'"\\"" {name} "\\":" {gap} {wanted.others}')
    most = None if wanted.high is None else wanted.high - 1
    another = f'({gap} "," {gap} {entry})'
    later = repeat(another, 0, None)
    first = f"({entry} {repeat(another, 0, most)})"
    return first if wanted.low else f"{first}?", later


def _name(rules: Rules, taken: Iterable[str]) -> str:
    """A name that is none of these: what begins like one goes on differently, or ends before or behind it."""
    plain = rules.shared("plain", one_of(_PLAIN))
    names = list(taken)
    if not names:
        return f"{plain}*"
    if any(len(name) > MAX_NAME for name in names):
        raise StructureError(
            f"where other properties may stand beside those named, names have at most {MAX_NAME} characters."
        )
    others: dict[frozenset[str], str] = {}
    whole = rules.name("name")
    work = [(whole, 0, names)]
    while work:
        # A rule for what goes on with none of `same` behind their common beginning, and is not empty if one of them is.
        rule, at, same = work.pop()
        by_start: dict[str, list[str]] = {}
        for name in same:
            if len(name) > at:
                by_start.setdefault(name[at], []).append(name)
        starts = frozenset(by_start)
        if starts not in others:
            free = without(_PLAIN, [(ord(start), ord(start)) for start in starts])
            others[starts] = f"{one_of(free)} {plain}*"
        parts = ['""'] if all(len(name) > at for name in same) else []
        for start, further in by_start.items():
            if ord(start) >= 0x20 and start not in '"\\':
                rest = rules.name("name")
                work.append((rest, at + 1, further))
                parts.append(f"{literal(start)} {rest}")
        rules.set(rule, choice([*parts, others[starts]]))
    return whole
