"""Owns what the engine needs of a grammar library: a compiled grammar, and a matcher that follows one sequence."""

from typing import Protocol

from loraplex.engine.structure import Structure

TOO_SLOW = (
    "The structure takes too long to follow: too many ways lead to the same text. Make it simpler."
)


class Matcher(Protocol):
    """Where one output stands in its grammar."""

    def accept(self, token: int) -> bool:
        """Move on by a token, which does not end the sequence; False, and no move, if the grammar forbids it."""
        ...

    def exhausted(self) -> bool:
        """Whether the output is complete and nothing may follow it."""
        ...

    def too_slow(self) -> bool:
        """Whether following this output has taken so long that others must not wait for it any more."""
        ...


class Grammar(Protocol):
    """A compiled grammar; `size` is what it takes in bytes. Its matchers keep it alive."""

    @property
    def size(self) -> int: ...

    def matcher(self) -> Matcher:
        """A new matcher at the beginning."""
        ...


class GrammarLibrary(Protocol):
    """Compiles for one vocabulary."""

    def compile(self, structure: Structure) -> Grammar:
        """Called from threads; may take seconds.

        Raises:
            StructureError: no output can have this structure, or the library cannot express it.
        """
        ...
