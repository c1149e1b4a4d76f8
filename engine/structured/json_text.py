"""Owns the grammar of JSON itself: strings, numbers, white space and values of any kind."""

import json
from collections.abc import Iterable

from loraplex.engine.structured.ebnf import Range, Rules, choice, literal, one_of, without

# Digits of whole numbers, of fractions and of exponents: enough for 64 bits, and an end for a model that has none.
INTEGER_DIGITS = 19
FRACTION_DIGITS = 15
_EXPONENT_DIGITS = 2

_QUOTE, _BACKSLASH = 0x22, 0x5C
_MUST_ESCAPE: list[Range] = [(0, 0x1F), (_QUOTE, _QUOTE), (_BACKSLASH, _BACKSLASH)]
_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r"}
_HEX = "[0-9a-fA-F]"


def space(rules: Rules) -> str:
    """Between the parts of a value: nothing, a space, or a line's end and some indentation. Bounded, as models that are
    free to go on with white space sometimes do so for ever."""
    return rules.shared("space", '"" | " " | "\\n" [ \\t]{0,40}')


# A character within a string that is written as it is, or escaped; a pair of surrogates is one, half a pair is none.
_PLAIN = one_of(without([(0, 0x10FFFF)], _MUST_ESCAPE))
_ESCAPED = (
    f'"\\\\" (["\\\\/bfnrt] | "u" ([0-9abcefABCEF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}}'
    f' | [dD] [89abAB] {_HEX}{{2}} "\\\\u" [dD] [c-fC-F] {_HEX}{{2}}))'
)


def text(rules: Rules) -> str:
    """Any characters within a string.

    A rule that goes on with itself: the library looks at every token again in every step, for 0.3 s, where a choice is
    repeated by `*`, and takes 70 us here.
    """
    return rules.shared("text", f'"" | {_PLAIN} text | {_ESCAPED} text')


def text_of(rules: Rules) -> str:
    """Any string."""
    return rules.shared("string", f'"\\"" {_rest(rules, 0, None)}')


def bounded_text_of(rules: Rules, low: int, high: int | None) -> str:
    """An expression for a string of `low` to `high` characters, None for no end."""
    return f'("\\"" {_rest(rules, low, high)})'


def _rest(rules: Rules, low: int, high: int | None) -> str:
    """The rest of a string of which `low` to `high` characters are left: a rule for each number, shared by all strings
    that come to it, for the reason given at `text`. The rules end with the quote: could one end before it, the library
    would have to look in every step at all tokens that are longer than what is left, which took 60 ms, not 0.1."""
    first, last = low, high
    while low or high:
        name = _rest_name(low, high)
        if name in rules:
            break
        rules.budget.add_states(1)
        end = "" if low else '"\\"" | '
        low, high = max(0, low - 1), None if high is None else high - 1
        rest = _rest_name(low, high)
        rules.set(name, f"{end}{_PLAIN} {rest} | {_ESCAPED} {rest}")
    rest = _rest_name(0, high)
    if high is None:
        rules.shared(rest, f'"\\"" | {_PLAIN} {rest} | {_ESCAPED} {rest}')
    elif not high:
        rules.shared(rest, '"\\""')
    return _rest_name(first, last)


def _rest_name(low: int, high: int | None) -> str:
    return f"rest_{low}_{'n' if high is None else high}"


def characters(ranges: list[Range]) -> str:
    """One of these characters as a string spells it. Of control characters mixed with others only the usual ones are
    taken."""
    parts = []
    plain = without(ranges, _MUST_ESCAPE)
    if plain:
        parts.append(one_of(plain))
    for code in _codes(ranges, _MUST_ESCAPE):
        if code in (_QUOTE, _BACKSLASH):
            parts.append(literal("\\" + chr(code)))
        elif code in _SHORT:
            parts.append(literal("\\" + _SHORT[code]))
        elif not plain:
            parts.append(literal(f"\\u{code:04x}"))
    return choice(parts)


def integer(rules: Rules) -> str:
    return rules.shared("integer", f'"0" | "-"? [1-9] [0-9]{{0,{INTEGER_DIGITS - 1}}}')


def number(rules: Rules) -> str:
    exponent = f"([eE] [+\\-]? [0-9]{{1,{_EXPONENT_DIGITS}}})?"
    whole = f'"-"? ("0" | [1-9] [0-9]{{0,{INTEGER_DIGITS - 1}}})'
    return rules.shared("number", f'{whole} ("." [0-9]{{1,{FRACTION_DIGITS}}})? {exponent}')


def boolean(rules: Rules) -> str:
    return rules.shared("boolean", '"true" | "false"')


def value(rules: Rules) -> str:
    """Anything."""
    for part in (space, text_of, number, boolean):
        part(rules)
    entry = 'string ":" space value'
    rules.shared("array", '"[" space (value (space "," space value)*)? space "]"')
    rules.shared("object", f'"{{" space ({entry} (space "," space {entry})*)? space "}}"')
    return rules.shared("value", 'string | number | boolean | "null" | array | object')


def constant(rules: Rules, wanted: object) -> str:
    """Exactly this value, with any white space between its parts."""
    gap = space(rules)
    if isinstance(wanted, dict):
        entries = [
            f"{literal(json.dumps(key, ensure_ascii=False) + ':')} {gap} {constant(rules, each)}"
            for key, each in wanted.items()
        ]
        return _joined("{", entries, "}", gap)
    if isinstance(wanted, list):
        return _joined("[", [constant(rules, each) for each in wanted], "]", gap)
    return literal(json.dumps(wanted, ensure_ascii=False))


def _joined(begin: str, parts: list[str], end: str, gap: str) -> str:
    inner = f' {gap} "," {gap} '.join(parts)
    return f"({literal(begin)} {gap} {inner} {gap} {literal(end)})"


def _codes(ranges: Iterable[Range], among: Iterable[Range]) -> list[int]:
    """The code points of the second that are in the first."""
    wanted = list(ranges)
    return [
        code
        for low, high in among
        for code in range(low, high + 1)
        if any(first <= code <= last for first, last in wanted)
    ]
