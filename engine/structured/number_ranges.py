"""Owns numbers between bounds as grammars of their digits."""

import math
from typing import NamedTuple

from loraplex.engine.structure import StructureError
from loraplex.engine.structured.ebnf import choice, literal
from loraplex.engine.structured.json_text import FRACTION_DIGITS, INTEGER_DIGITS

_LARGEST = 10**INTEGER_DIGITS - 1


class Bounds(NamedTuple):
    """Both whole numbers; None is without bound. With `open_low` or `open_high` the bound itself is outside."""

    low: int | None
    high: int | None
    open_low: bool = False
    open_high: bool = False


def whole_numbers(low: int | None, high: int | None) -> str:
    """An expression for the whole numbers from `low` to `high`.

    Raises:
        StructureError: there is none.
    """
    first = -_LARGEST if low is None else max(low, -_LARGEST)
    last = _LARGEST if high is None else min(high, _LARGEST)
    if first > last:
        raise StructureError("no number lies within the bounds.")
    parts = []
    if first < 0:
        parts += [f'"-" {part}' for part in _between(max(1, -last), -first)]
    if last >= 0:
        parts += _between(max(0, first), last)
    return choice(parts)


def numbers(bounds: Bounds) -> str:
    """An expression for the numbers within bounds, without exponents.

    Raises:
        StructureError: there is none.
    """
    low, high = bounds.low, bounds.high
    first = None if low is None else low + bounds.open_low
    last = None if high is None else high - bounds.open_high
    parts = []
    if first is None or last is None or first <= last:
        parts.append(whole_numbers(first, last))
    # With a digit that is not zero the fraction lies strictly between two whole numbers.
    fraction = f'"." [0-9]{{0,{FRACTION_DIGITS - 1}}} [1-9]'
    if high is None or high > 0:
        floor = max(0, low or 0)
        if high is None or floor < high:
            parts.append(f"{whole_numbers(floor, None if high is None else high - 1)} {fraction}")
    if low is None or low < 0:
        ceiling = max(0, 0 if high is None else -high)
        if low is None or ceiling < -low:
            body = whole_numbers(ceiling, None if low is None else -low - 1)
            parts.append(f'"-" {body} {fraction}')
    if not parts:
        raise StructureError("no number lies within the bounds.")
    return choice(parts)


def _between(low: int, high: int) -> list[str]:
    """For 0 <= low <= high."""
    parts = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 0 if digits == 1 else 10 ** (digits - 1))
        parts.append(_same_length(str(first), str(min(high, 10**digits - 1))))
    return parts


def _same_length(low: str, high: str) -> str:
    """Numbers from `low` to `high`, which have equally many digits."""
    if not low:
        return '""'
    free = f"[0-9]{{{len(low) - 1}}}" if len(low) > 1 else ""
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return f"[{low[0]}-{high[0]}] {free}"
    if low[0] == high[0]:
        return f"{literal(low[0])} {_same_length(low[1:], high[1:])}"
    rest = len(low) - 1
    parts = [f"{literal(low[0])} {_same_length(low[1:], '9' * rest)}"]
    if int(high[0]) - int(low[0]) > 1:
        parts.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] {free}")
    parts.append(f"{literal(high[0])} {_same_length('0' * rest, high[1:])}")
    return choice(parts)


def whole(value: float, *, up: bool) -> int:
    """The next whole number at or above, or at or below."""
    return math.ceil(value) if up else math.floor(value)
