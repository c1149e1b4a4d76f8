"""Owns the use of xgrammar: the only file that imports it, and only once a request asks for a structure."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.port import Matcher
from loraplex.engine.structured.sources import ebnf_of, structural_tag_of

if TYPE_CHECKING:
    import xgrammar

# Filling a row takes 10 to 30 us; with fewer rows than this, waking threads costs more than they save.
_ROWS_FOR_THREADS = 8
_FILL_THREADS = 4  # as far as there are processors


class XGrammarLibrary:
    """Compiles for one vocabulary. Threads may call it."""

    def __init__(self, pieces: list[bytes], eos_token_ids: tuple[int, ...]) -> None:
        """
        Args:
            pieces: see `vocabulary.token_pieces`; as long as a row of logits.
            eos_token_ids: tokens that end a sequence.

        Raises:
            StructureError: the package is not installed.
        """
        try:
            import xgrammar
        except ImportError:
            raise StructureError(
                "Structured output needs the package xgrammar, which this server lacks; ask its operator."
            ) from None
        self._no_ends = ~token_set(eos_token_ids, len(pieces))
        ends = [token for token in eos_token_ids if token < len(pieces)]
        info = xgrammar.TokenizerInfo(pieces, stop_token_ids=ends)
        # `Structures` keeps what is worth keeping, and has threads.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def compile(self, structure: Structure) -> "XGrammar":
        """See `GrammarLibrary`."""
        try:
            if structure.kind == "structural_tag":
                compiled = self._compiler.compile_structural_tag(structural_tag_of(structure))
            else:
                compiled = self._compiler.compile_grammar(ebnf_of(structure))
        except RuntimeError as error:
            raise StructureError(f"The structure is refused: {_reason(error)}") from None
        grammar = XGrammar(compiled, self._no_ends)
        grammar.matcher().check_beginning()
        return grammar


class XGrammar:
    """A compiled grammar.

    Attributes:
        size: what it takes, in bytes.
    """

    def __init__(self, compiled: "xgrammar.CompiledGrammar", no_ends: NDArray[np.int32]) -> None:
        self._compiled = compiled
        self._no_ends = no_ends
        self.size = int(compiled.memory_size_bytes)

    def matcher(self) -> "XGrammarMatcher":
        import xgrammar

        return XGrammarMatcher(xgrammar.GrammarMatcher(self._compiled), self._no_ends)


class XGrammarMatcher:
    """Where one output stands.

    Attributes:
        inner: the library's own.
    """

    __slots__ = ("_no_ends", "inner")

    def __init__(self, inner: "xgrammar.GrammarMatcher", no_ends: NDArray[np.int32]) -> None:
        self.inner = inner
        self._no_ends = no_ends

    def accept(self, token: int) -> bool:
        """See `Matcher`."""
        return bool(self.inner.accept_token(token))

    def exhausted(self) -> bool:
        """See `Matcher`."""
        return self.inner.is_completed() and not self._next().any()

    def check_beginning(self) -> None:
        """Raises StructureError if the output would be empty."""
        if not self._next().any():
            what = "only the empty text" if self.inner.is_completed() else "no text"
            raise StructureError(
                f"The structure is refused: {what} that this model can write has it."
            )

    def _next(self) -> NDArray[np.int32]:
        """What may follow, but for the tokens that end the output; as in `XGrammarFiller.fill`."""
        mask = np.empty((1, len(self._no_ends)), dtype=np.int32)
        self.inner.fill_next_token_bitmask(mask)
        allowed: NDArray[np.int32] = mask[0] & self._no_ends
        return allowed


class XGrammarFiller:
    """Fills the masks of a batch."""

    def __init__(self) -> None:
        import xgrammar

        self._few = xgrammar.BatchGrammarMatcher(max_threads=1)
        self._many = xgrammar.BatchGrammarMatcher(
            max_threads=min(_FILL_THREADS, os.cpu_count() or 1)
        )

    def fill(self, matchers: Sequence[Matcher], masks: NDArray[np.int32]) -> None:
        """Set row i of [at least matchers, ceil(vocabulary / 32)] to what matcher i, an `XGrammarMatcher`, allows: bit
        t % 32 of word t // 32 is token t. Tokens that end a sequence are allowed where the output may end."""
        batch = self._few if len(matchers) < _ROWS_FOR_THREADS else self._many
        inner = [cast(XGrammarMatcher, matcher).inner for matcher in matchers]
        batch.batch_fill_next_token_bitmask(inner, masks)


def token_set(tokens: tuple[int, ...], vocab_size: int) -> NDArray[np.int32]:
    """[ceil(vocab_size / 32)] with the bits of `tokens` set, as far as they are in the vocabulary."""
    bits = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    bits[[token for token in tokens if token < vocab_size]] = 1
    words: NDArray[np.int32] = np.packbits(bits, bitorder="little").view(np.int32)
    return words


def _reason(error: RuntimeError) -> str:
    """The last line of the library's message, without its time and place in the source."""
    text = str(error).strip().rsplit("\n", 1)[-1]
    _, _, reason = text.rpartition(".cc:")
    reason = (reason or text).split(": ", 1)[-1].strip()
    return reason[:300]
