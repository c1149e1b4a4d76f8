"""Owns the use of xgrammar: the only file that imports it, and only once a request asks for a structure."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.port import TOO_SLOW, Matcher
from loraplex.engine.structured.sources import ebnf_of, structural_tag_of

if TYPE_CHECKING:
    import xgrammar

# Filling a row takes 40 to 150 us with 128,000 tokens; with fewer rows than this, waking threads costs more than they
# save.
_ROWS_FOR_THREADS = 8
_FILL_THREADS = 4  # as far as there are processors
# Of one grammar, as far as there are processors: what takes long are many passes over the vocabulary.
_COMPILE_THREADS = 4
# Of what the library keeps to compile the next grammar faster: a string of at most 60 characters took 1.7 s after one
# of at most 40, and one of at most 20 took 0.1 s.
_KEPT_BYTES = 64 << 20
# Of processor time, in seconds. A grammar with many ways to read one text can take minutes for a token, and every
# sequence waits; others stay below 5 ms. What is above counts, and so much of it in all ends the sequence.
_SLOW_MOVE, _SLOW_IN_ALL = 0.01, 0.5
_MOVES_TRIED = 16  # when a grammar has been compiled


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
        self._compiler = xgrammar.GrammarCompiler(
            info,
            max_threads=min(_COMPILE_THREADS, os.cpu_count() or 1),
            cache_limit_bytes=_KEPT_BYTES,
        )

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
        _try_out(grammar.matcher())
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

        return XGrammarMatcher(self, xgrammar.GrammarMatcher(self._compiled), self._no_ends)


class XGrammarMatcher:
    """Where one output stands.

    Attributes:
        grammar: which lives as long as it is followed.
        inner: the library's own.
    """

    __slots__ = ("_no_ends", "_slow", "grammar", "inner")

    def __init__(
        self, grammar: XGrammar, inner: "xgrammar.GrammarMatcher", no_ends: NDArray[np.int32]
    ) -> None:
        self.grammar = grammar
        self.inner = inner
        self._no_ends = no_ends
        self._slow = 0.0

    def accept(self, token: int) -> bool:
        """See `Matcher`."""
        started = time.thread_time()
        accepted = bool(self.inner.accept_token(token))
        self._note(time.thread_time() - started)
        return accepted

    def exhausted(self) -> bool:
        """See `Matcher`."""
        return self.inner.is_completed() and not self.next().any()

    def too_slow(self) -> bool:
        """See `Matcher`."""
        return self._slow > _SLOW_IN_ALL

    def next(self) -> NDArray[np.int32]:
        """What may follow, but for the tokens that end the output; as in `XGrammarFiller.fill`."""
        mask = np.empty((1, len(self._no_ends)), dtype=np.int32)
        self.fill(mask, 0)
        allowed: NDArray[np.int32] = mask[0] & self._no_ends
        return allowed

    def next_tokens(self) -> NDArray[np.int64]:
        """The tokens of `next`."""
        return np.flatnonzero(np.unpackbits(self.next().view(np.uint8), bitorder="little"))

    def fill(self, masks: NDArray[np.int32], row: int) -> None:
        """One row of `XGrammarFiller.fill`."""
        started = time.thread_time()
        self.inner.fill_next_token_bitmask(masks, row)
        self._note(time.thread_time() - started)

    def _note(self, seconds: float) -> None:
        if seconds > _SLOW_MOVE:
            self._slow += seconds


class XGrammarFiller:
    """Fills the masks of a batch."""

    def __init__(self) -> None:
        import xgrammar

        self._few = xgrammar.BatchGrammarMatcher(max_threads=1)
        self._many = xgrammar.BatchGrammarMatcher(
            max_threads=min(_FILL_THREADS, os.cpu_count() or 1)
        )
        self._look_closer = False  # one of the last batch was slow, if not all of the machine

    def fill(self, matchers: Sequence[Matcher], masks: NDArray[np.int32]) -> None:
        """Set row i of [at least matchers, ceil(vocabulary / 32)] to what matcher i, an `XGrammarMatcher`, allows: bit
        t % 32 of word t // 32 is token t. Tokens that end a sequence are allowed where the output may end."""
        started = time.perf_counter()
        own = [cast(XGrammarMatcher, matcher) for matcher in matchers]
        if self._look_closer:
            for row, matcher in enumerate(own):
                matcher.fill(masks, row)
        else:
            batch = self._few if len(own) < _ROWS_FOR_THREADS else self._many
            batch.batch_fill_next_token_bitmask([matcher.inner for matcher in own], masks)
        self._look_closer = time.perf_counter() - started > _SLOW_MOVE


def token_set(tokens: tuple[int, ...], vocab_size: int) -> NDArray[np.int32]:
    """[ceil(vocab_size / 32)] with the bits of `tokens` set, as far as they are in the vocabulary."""
    bits = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    bits[[token for token in tokens if token < vocab_size]] = 1
    words: NDArray[np.int32] = np.packbits(bits, bitorder="little").view(np.int32)
    return words


def _try_out(matcher: XGrammarMatcher) -> None:
    """Raises StructureError if the output would be empty, or if its beginning takes long to follow."""
    for move in range(_MOVES_TRIED):
        tokens = matcher.next_tokens()
        if not len(tokens) and not move:
            what = "only the empty text" if matcher.inner.is_completed() else "no text"
            raise StructureError(
                f"The structure is refused: {what} that this model can write has it."
            )
        if matcher.too_slow():
            raise StructureError(TOO_SLOW)
        if not len(tokens):
            return
        matcher.accept(int(tokens[len(tokens) * move // _MOVES_TRIED]))


def _reason(error: RuntimeError) -> str:
    """The last line of the library's message, without its time and place in the source."""
    text = str(error).strip().rsplit("\n", 1)[-1]
    _, _, reason = text.rpartition(".cc:")
    reason = (reason or text).split(": ", 1)[-1].strip()
    return reason[:300]
