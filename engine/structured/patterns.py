"""Owns regular expressions as grammars: those of ECMA 262 that are regular in fact, and no other construct is passed
over in silence."""

from collections.abc import Callable
from typing import NamedTuple

from loraplex.engine.structure import StructureError
from loraplex.engine.structured.ebnf import (
    MAX_CODEPOINT,
    MAX_STATES,
    Budget,
    Range,
    choice,
    complement,
    normal,
    one_of,
    repeat,
    without,
)

MAX_LENGTH = 4096
MAX_DEPTH = 32
# Copies of a part that counted repetitions may make of it, one within the other: a million of them compile in seconds.
MAX_COPIES = 10_000
# Of parts in a row that may be left out. The library tries every one of them as the next: 32 take it
# seconds with a large vocabulary, and each doubling eight times as long.
MAX_OPTIONAL = 32

_DIGITS: list[Range] = [(0x30, 0x39)]
_WORD: list[Range] = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: list[Range] = [(0x09, 0x0D), (0x20, 0x20)]
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACES}
_LINE_ENDS: list[Range] = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0x00}
_ASCII = 0x7F
# How much of the vocabulary must be gone through where a character of a set may stand, as measured with 128,000 tokens:
# 36 ms for any character, 9 for letters, 2 for many others, 0.2 for a few letters, digits or capitals.
_ANYTHING, _LETTERS, _OTHERS, _FEW = 1.0, 0.25, 0.05, 0.005
_MOST_FEW = 32  # characters
_SPACE: Range = (0x20, 0x20)
_SMALL: Range = (0x61, 0x7A)


def whole_text(pattern: str, budget: Budget) -> str:
    """An expression for texts of which a pattern describes the whole.

    Raises:
        StructureError: the pattern is malformed, too large, or beyond what is supported.
    """
    return _Parser(pattern, budget, one_of, "").parse()


def within_text(
    pattern: str, budget: Budget, spell: Callable[[list[Range]], str], anything: str
) -> str:
    """An expression for texts in which a pattern is found somewhere, unless `^` and `$` say where.

    Args:
        pattern: the pattern.
        budget: what it may come to.
        spell: an expression for one character of these, as the text spells it.
        anything: an expression for any text.

    Raises:
        StructureError: as for `whole_text`.
    """
    return _Parser(pattern, budget, spell, anything).parse()


class _Part(NamedTuple):
    """A part of a pattern.

    Attributes:
        expression: what it is in the grammar.
        copies: of characters, that counted repetitions make.
        states: as `Budget.add_states` counts them.
        empty: whether it may be left out.
    """

    expression: str
    copies: int
    states: float
    empty: bool


class _Parser:
    def __init__(
        self,
        pattern: str,
        budget: Budget,
        spell: Callable[[list[Range]], str],
        anything: str,
    ) -> None:
        if len(pattern) > MAX_LENGTH:
            raise StructureError(f"the pattern has more than {MAX_LENGTH} characters.")
        if any("\ud800" <= char <= "\udfff" for char in pattern):
            raise StructureError("the pattern holds half a character (a surrogate).")
        self._pattern = pattern
        self._budget = budget
        self._spell = spell
        self._anything = anything
        self._at = 0
        self._depth = 0
        self._optional = 0

    def parse(self) -> str:
        """The whole pattern."""
        alternatives = [self._anchored()]
        while self._take("|"):
            alternatives.append(self._anchored())
        if self._at < len(self._pattern):
            raise self._error("has no opening bracket")
        return choice(alternatives)

    def _anchored(self) -> str:
        before = "" if self._take("^") else self._anything
        part = self._sequence()
        body = part.expression
        self._budget.add_states(part.states)
        after = "" if self._take("$") else self._anything
        if self._peek() not in ("", "|", ")"):
            raise self._error("stands behind $")
        return " ".join(part for part in (before, body, after) if part) or '""'

    def _alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        expression = choice(each.expression or '""' for each in parts)
        return _Part(
            expression,
            sum(each.copies for each in parts),
            sum(each.states for each in parts),
            any(each.empty for each in parts),
        )

    def _sequence(self) -> _Part:
        """Up to the end of an alternative."""
        parts: list[str] = []
        total, states, empty = 0, 0.0, True
        while self._peek() not in ("", "|", ")", "$"):
            part = self._atom()
            low, high = self._quantifier()
            self._optional = 0 if low else self._optional + 1
            if self._optional > MAX_OPTIONAL:
                raise StructureError(
                    f"the pattern has more than {MAX_OPTIONAL} parts in a row that may be left out."
                )
            times = max(low, high or 1, 1)
            if part.empty and times > 1:
                raise StructureError(
                    "the pattern counts how often a part stands that may be empty; leave the count out."
                )
            total += times * part.copies
            if total > MAX_COPIES:
                raise StructureError(f"the pattern repeats more than {MAX_COPIES} times in all.")
            # Of those in a row that may be left out each is tried behind each.
            states += times * _states_of_copy(part, times) * max(1, self._optional)
            empty = empty and (low == 0 or part.empty)
            if states > MAX_STATES:
                self._budget.add_states(states)
            parts.append(_repeated(part, low, high))
        return _Part(" ".join(parts), max(total, 1), states, empty)

    def _atom(self) -> _Part:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._spelled(self._set())
        if char == ".":
            return self._spelled(complement(_LINE_ENDS))
        if char == "\\":
            ranges, _ = self._escape()
            return self._spelled(ranges)
        if char in "*+?{^":
            self._at -= 1
            raise self._error("is not supported at this place")
        return self._spelled([(ord(char), ord(char))])

    def _spelled(self, ranges: list[Range]) -> _Part:
        if not ranges:
            raise StructureError("the pattern asks for a character out of an empty set.")
        return _Part(self._spell(ranges), 1, _states(ranges), empty=False)

    def _group(self) -> _Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise StructureError(f"the pattern has more than {MAX_DEPTH} brackets within brackets.")
        if self._take("?") and not self._take(":"):
            self._take("P")
            end = self._pattern.find(">", self._at)
            if not self._take("<") or self._peek() in "=!" or end < 0:
                raise self._error("is not supported behind (?")
            self._at = end + 1
        found = self._alternatives()
        if not self._take(")"):
            raise self._error("stands where ) is missing")
        self._depth -= 1
        return found

    def _quantifier(self) -> tuple[int, int | None]:
        counts: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        char = self._peek()
        if char != "{" and char not in counts:
            return 1, 1
        self._at += 1
        result = self._counts() if char == "{" else counts[char]
        self._take("?")  # a lazy one matches the same texts
        if self._peek() in ("*", "+", "?", "{"):
            raise self._error("follows another repetition")
        return result

    def _counts(self) -> tuple[int, int | None]:
        end = self._pattern.find("}", self._at)
        first, comma, second = self._pattern[self._at : max(end, self._at)].partition(",")
        numbers = [text for text in (first, second) if text]
        if not first or not all(text.isascii() and text.isdigit() for text in numbers):
            raise self._error("does not begin a repetition")
        if any(len(text) > 6 for text in numbers):
            raise StructureError(f"the pattern repeats more than {MAX_COPIES} times in all.")
        self._at = end + 1
        low = int(first)
        high = int(second) if second else None if comma else low
        if high is not None and high < low:
            raise StructureError(f"the pattern repeats {low} to {high} times.")
        return low, high

    def _set(self) -> list[Range]:
        """Behind [."""
        negated = self._take("^")
        ranges: list[Range] = []
        by_class = False
        while not self._take("]"):
            low, is_class = self._member()
            by_class |= is_class
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high, other = self._member()
                if is_class or other or high[0][0] < low[0][0]:
                    raise self._error("does not end a range of characters")
                low = [(low[0][0], high[0][1])]
            ranges += low
        if not negated:
            return normal(ranges)
        # What \w and \s mean beyond ASCII depends on who reads the pattern.
        return complement(ranges, _ASCII if by_class else MAX_CODEPOINT)

    def _member(self) -> tuple[list[Range], bool]:
        char = self._next()
        if char == "\\":
            return self._escape(in_set=True)
        return [(ord(char), ord(char))], False

    def _escape(self, *, in_set: bool = False) -> tuple[list[Range], bool]:
        """What stands behind a backslash, and whether it is a class."""
        char = self._next()
        if char in _CLASSES:
            return list(_CLASSES[char]), True
        if char in "DWS":
            return complement(_CLASSES[char.lower()], _ASCII), True
        code: int
        if char == "b" and in_set:
            code = 0x08
        elif char in _CONTROLS and not self._peek().isdigit():
            code = _CONTROLS[char]
        elif char in "xu":
            code = self._hex(2 if char == "x" else 4)
        elif char.isascii() and char.isalnum():
            self._at -= 1
            raise self._error("is not supported behind a backslash")
        else:
            code = ord(char)
        return [(code, code)], False

    def _hex(self, digits: int) -> int:
        text = self._pattern[self._at : self._at + digits]
        if len(text) < digits or not all(char in "0123456789abcdefABCDEF" for char in text):
            raise self._error("is not a hexadecimal number")
        self._at += digits
        code = int(text, 16)
        if 0xD800 <= code <= 0xDFFF:
            raise StructureError("the pattern holds half a character (a surrogate).")
        return code

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise StructureError("the pattern ends too early.")
        self._at += 1
        return char

    def _take(self, wanted: str) -> bool:
        if self._peek() != wanted:
            return False
        self._at += 1
        return True

    def _error(self, what: str) -> StructureError:
        char = self._peek()
        if not char:
            return StructureError("the pattern ends too early.")
        return StructureError(f"the pattern's {char!r} at position {self._at} {what}.")


def _repeated(part: _Part, low: int, high: int | None) -> str:
    """The part `low` to `high` times. What is in brackets and fits many tokens is written as often as it may
    stand: told as a repetition, it has the library look at every token anew in every step, for 0.1 s."""
    if not _is_unrolled(part, max(low, high or 1)):
        return repeat(part.expression, low, high)
    always = " ".join([part.expression] * low)
    if high is None:
        return f"{always} {part.expression}*".strip()
    more = high - low
    return f"{always} {f'({part.expression} ' * more}{')?' * more}".strip()


def _is_unrolled(part: _Part, times: int) -> bool:
    return part.expression.startswith("(") and part.states >= _LETTERS and times > 1


def _states_of_copy(part: _Part, times: int) -> float:
    """Of each copy: one of `(words )` took 60 ms, as words may follow words."""
    return max(part.states, _ANYTHING) if _is_unrolled(part, times) else part.states


def _states(ranges: list[Range]) -> float:
    """Of one character: words and the space in front of them are most of a vocabulary."""
    missing = _count(without([_SMALL], ranges))
    if 2 * missing > _count([_SMALL]):
        return _FEW if _count(ranges) <= _MOST_FEW else _OTHERS
    return _LETTERS if without([_SPACE], ranges) else _ANYTHING


def _count(ranges: list[Range]) -> int:
    return sum(high - low + 1 for low, high in ranges)
