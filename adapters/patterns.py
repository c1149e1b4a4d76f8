"""Owns matching of module names against the regular expressions a PEFT config may hold. They come from strangers, so
they run under RE2, whose time is linear; plain names do not need it."""

import re
from collections.abc import Callable, Iterable

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.strict_json import quote

MAX_PATTERN_LENGTH = 8192
# RE2 compiles `\pL{256}` to 100,000 instructions in a quarter of a second; within this much memory it takes 30 ms.
MAX_PROGRAM_BYTES = 1024 * 1024
# Linear time has its factor too: RE2 needs up to 8 ns for each instruction and character, `(.?){1000}` 1.5 s for the
# modules of a 70B model. All expressions of one config may take a third of a second.
MAX_WORK = 40_000_000
Matcher = Callable[[str], bool]
# No operator but dots and anchors: nothing for a backtracking engine to trip over.
_PLAIN = re.compile(r"\^?(?:[\w.]|\\\.)+\$?", re.ASCII)


class UnsupportedPatternError(Exception):
    """The expression uses what RE2 leaves out: look-around or back-references."""


class Budget:
    """What the expressions of one config may cost together."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those that every expression is run over."""
        self._characters = sum(map(len, names))
        self._left = MAX_WORK

    def spend(self, field: str, pattern: str, instructions: int) -> None:
        """Account for one expression before it is run.

        Raises:
            AdapterRejected: there is not enough left.
        """
        self._left -= instructions * self._characters
        if self._left < 0:
            raise AdapterRejected(
                field,
                f"{field}: {quote(pattern)} and those before it take too long over all modules; list "
                "plain module names.",
            )


def is_plain(pattern: str) -> bool:
    """Whether a pattern is just a module name, or the end of one."""
    return _PLAIN.fullmatch(pattern) is not None


def full_matcher(field: str, pattern: str, budget: Budget | None = None) -> Matcher:
    """Whether a whole module name matches, as PEFT reads `target_modules` and `exclude_modules` strings.

    Raises:
        AdapterRejected: the pattern is too long, too costly or not a regular expression.
        UnsupportedPatternError: RE2 cannot run it.
    """
    return _compile(field, pattern, "", budget)


def suffix_matcher(field: str, pattern: str, budget: Budget | None = None) -> Matcher:
    """Whether a module name or a dotted suffix of it matches, as PEFT reads keys of `rank_pattern` and `alpha_pattern`.

    Raises:
        AdapterRejected, UnsupportedPatternError: see `full_matcher`.
    """
    return _compile(field, pattern, r"(?:.*\.)?", budget)


def _compile(field: str, pattern: str, prefix: str, budget: Budget | None) -> Matcher:
    if not pattern or len(pattern) > MAX_PATTERN_LENGTH:
        raise AdapterRejected(
            field, f"{field}: a pattern must have 1 to {MAX_PATTERN_LENGTH} characters."
        )
    if is_plain(pattern):
        plain = re.compile(f"{prefix}(?:{pattern})")
        return lambda name: plain.fullmatch(name) is not None
    # Imported here: most adapters need no RE2, and the API process is kept small.
    try:
        import re2
    except ImportError:
        raise AdapterRejected(
            field,
            f"{field}: {quote(pattern)} is a regular expression, and this server lacks google-re2; "
            "install google-re2 or list plain module names.",
        ) from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PROGRAM_BYTES
    try:
        # Alone first: `a)|(b` must not slip through by closing the group around it.
        re2.compile(pattern, options)
        compiled = re2.compile(f"{prefix}(?:{pattern})", options)
    except re2.error as error:
        raw = error.args[0] if error.args else ""
        reason = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        if reason.startswith(("invalid perl operator", "invalid escape sequence")):
            raise UnsupportedPatternError(reason) from None
        raise AdapterRejected(
            field,
            f"{field}: {quote(pattern)} is not a usable regular expression ({reason}); correct it.",
        ) from None
    if budget is not None:
        budget.spend(field, pattern, compiled.programsize)
    return lambda name: compiled.fullmatch(name) is not None
