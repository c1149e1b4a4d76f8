"""Owns writing grammars in the notation of the grammar library: literals, sets of characters, repetitions, rules."""

from collections.abc import Iterable

from loraplex.engine.structure import StructureError

MAX_CODEPOINT = 0x10FFFF
# No UTF-8 text holds these.
_SURROGATES = (0xD800, 0xDFFF)

# Of the text of all rules: what few words ask for can be long (a number within bounds is 5 KB), and reading 1 MB takes
# the library a second.
MAX_TEXT = 2 << 20
# Places in a text at which many tokens can be told apart only by their length, as in "at most 100 characters". For each
# the library goes through the whole vocabulary, for 40 to 60 ms with 128,000 tokens, on two processors half as long.
MAX_STATES = 100

Range = tuple[int, int]  # of code points, both ends included


class Budget:
    """What grammars that are compiled together may come to."""

    def __init__(self) -> None:
        self._size = 0
        self._states = 0.0

    def add_text(self, size: int) -> None:
        """Raises StructureError when all rules together are too long."""
        self._size += size
        if self._size > MAX_TEXT:
            raise StructureError("it comes to too large a grammar; make it smaller.")

    def add_states(self, number: float) -> None:
        """Raises StructureError when there are more than `MAX_STATES`; what tells few tokens apart is a part of one."""
        self._states += number
        if self._states > MAX_STATES:
            raise StructureError(
                f"counted characters come to more than {MAX_STATES} in all; ask for shorter texts, for fewer"
                " different lengths, or for any number (*, +)."
            )


class Rules:
    """Named rules in the order in which they were asked for."""

    def __init__(self, budget: Budget | None = None) -> None:
        """
        Args:
            budget: shared with other grammars; None: these have one of their own.
        """
        self.budget = budget or Budget()
        self._bodies: dict[str, str] = {}

    def name(self, hint: str) -> str:
        """A new name; its rule is still to be set."""
        name = f"{hint}_{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def set(self, name: str, body: str) -> None:
        """Raises StructureError when all rules together are too long."""
        self.budget.add_text(len(body))
        self._bodies[name] = body

    def add(self, hint: str, body: str) -> str:
        """A new rule; returns its name."""
        name = self.name(hint)
        self.set(name, body)
        return name

    def shared(self, name: str, body: str) -> str:
        """A rule that is there once however often it is asked for; returns its name."""
        self._bodies.setdefault(name, body)
        return name

    def __contains__(self, name: str) -> bool:
        return name in self._bodies

    def text(self) -> str:
        return "".join(f"{name} ::= {body}\n" for name, body in self._bodies.items())


def literal(text: str) -> str:
    """An expression for exactly this text."""
    return '"' + "".join(_escaped(ord(char), '"') for char in text) + '"'


def one_of(ranges: Iterable[Range]) -> str:
    """An expression for one character of these."""
    parts = []
    for low, high in ranges:
        part = _escaped(low, "[]^-")
        parts.append(part if low == high else f"{part}-{_escaped(high, '[]^-')}")
    return "[" + "".join(parts) + "]"


def choice(expressions: Iterable[str]) -> str:
    """An expression for any of these."""
    return "(" + " | ".join(expressions) + ")"


def repeat(expression: str, low: int, high: int | None) -> str:
    """An expression in brackets or a name, `low` to `high` times; None is without end."""
    if (low, high) == (1, 1):
        return expression
    if high is None:
        return expression + ("*" if low == 0 else "+" if low == 1 else f"{{{low},}}")
    if high == 0:
        return '""'
    return expression + ("?" if (low, high) == (0, 1) else f"{{{low},{high}}}")


def normal(ranges: Iterable[Range]) -> list[Range]:
    """Sorted and merged, without what no text holds."""
    result: list[Range] = []
    for low, high in sorted(ranges):
        for part in _around(low, min(high, MAX_CODEPOINT)):
            if result and part[0] <= result[-1][1] + 1:
                result[-1] = (result[-1][0], max(result[-1][1], part[1]))
            else:
                result.append(part)
    return result


def complement(ranges: Iterable[Range], highest: int = MAX_CODEPOINT) -> list[Range]:
    """All other characters up to `highest`."""
    result, start = [], 0
    for low, high in normal(ranges):
        if low > start:
            result.append((start, min(low - 1, highest)))
        start = high + 1
    if start <= highest:
        result.append((start, highest))
    return normal(part for part in result if part[0] <= part[1])


def without(ranges: Iterable[Range], removed: Iterable[Range]) -> list[Range]:
    """The first, but for the second."""
    return complement([*complement(ranges), *removed])


def _around(low: int, high: int) -> list[Range]:
    parts = [(low, min(high, _SURROGATES[0] - 1)), (max(low, _SURROGATES[1] + 1), high)]
    return [part for part in parts if part[0] <= part[1]]


def _escaped(code: int, special: str) -> str:
    if _SURROGATES[0] <= code <= _SURROGATES[1]:
        raise StructureError("a text holds half a character (a surrogate).")
    char = chr(code)
    if char in special or char == "\\":
        return "\\" + char
    if 0x20 <= code < 0x7F:
        return char
    return f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}"
