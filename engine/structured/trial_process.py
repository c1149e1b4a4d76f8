"""Owns trying out grammars that users wrote, in a process of its own: compiling and following one runs in native code
that cannot be interrupted, and a grammar can be made to take all the time and memory there is."""

import json
import random
import resource
import sys
import threading
from pathlib import Path

from loraplex.engine.line_process import LineProcess, answer_orders
from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.port import TOO_SLOW
from loraplex.engine.structured.sources import holds_grammar
from loraplex.engine.structured.xgrammar_library import XGrammar, XGrammarLibrary

# Processor time of one trial. Grammars of some hundred rules take 0.01 to 1 s with 128,000 tokens; one of 52 KB, in
# which each of 2,000 rules stands twice in the one before, took 13 s with 257 tokens.
CPU_SECONDS = 3.0
# The last resort, in real time: the process has to start, which takes 4 s, and the machine may be busy. Whoever
# waits is told sooner, see `structures`.
PATIENCE_SECONDS = 300.0
MEMORY_BYTES = 1 << 30  # beyond what the process has with its vocabulary
# What a trial writes: so many texts of so many tokens each. A token takes 0.1 ms.
_TEXTS, _TOKENS = 8, 64

_NOT_TAKEN = (
    "This server takes no grammars; send a JSON schema, a regular expression or a choice, or ask its operator for"
    " --user-grammars."
)
_TOO_MUCH = "The grammar takes too much time or memory; make it smaller or simpler."


class TriedLibrary:
    """A library that compiles what users wrote only after another process could."""

    def __init__(
        self,
        pieces: list[bytes],
        eos_token_ids: tuple[int, ...],
        *,
        takes_grammars: bool = True,
        cpu_seconds: float = CPU_SECONDS,
    ) -> None:
        """
        Args:
            pieces, eos_token_ids: as of `XGrammarLibrary`.
            takes_grammars: whether users may write grammars at all.
            cpu_seconds: most processor time of one trial.
        """
        self._takes_grammars = takes_grammars
        self._library = XGrammarLibrary(pieces, eos_token_ids)
        self._trials = TrialProcess(pieces, eos_token_ids, cpu_seconds)

    def compile(self, structure: Structure) -> XGrammar:
        """See `GrammarLibrary`."""
        if holds_grammar(structure):
            if not self._takes_grammars:
                raise StructureError(_NOT_TAKEN)
            self._trials.check(structure)
        return self._library.compile(structure)


class TrialProcess(LineProcess):
    """Where structures are tried out. Threads may use it, by turns."""

    def __init__(
        self, pieces: list[bytes], eos_token_ids: tuple[int, ...], cpu_seconds: float
    ) -> None:
        """See `TriedLibrary`."""
        vocabulary = {
            "pieces": [piece.decode("latin-1") for piece in pieces],
            "eos_token_ids": eos_token_ids,
        }
        super().__init__(__name__, PATIENCE_SECONDS, json.dumps(vocabulary).encode() + b"\n")
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()

    def check(self, structure: Structure) -> None:
        """Raises StructureError if it is refused, or takes too long or too much memory to compile or to follow."""
        kind, source = structure.kind, structure.source
        order = {"kind": kind, "source": source, "cpu_seconds": self._cpu_seconds}
        with self._lock:
            answer = self._exchange(json.dumps(order).encode() + b"\n")
        if answer is None:
            raise StructureError(_TOO_MUCH)
        if error := json.loads(answer):
            raise StructureError(error)


def main() -> None:
    """Read a vocabulary, then try structures out, one line of JSON each, until standard input ends."""
    vocabulary = json.loads(sys.stdin.buffer.readline())
    pieces = [piece.encode("latin-1") for piece in vocabulary["pieces"]]
    library = XGrammarLibrary(pieces, tuple(vocabulary["eos_token_ids"]))
    _limit_memory()
    answer_orders(lambda order: _try_out(library, Structure(order["kind"], order["source"])))


def _try_out(library: XGrammarLibrary, structure: Structure) -> str | None:
    """What is wrong with it."""
    try:
        grammar = library.compile(structure)
        for seed in range(_TEXTS):
            matcher, rng = grammar.matcher(), random.Random(seed)  # noqa: S311 - no secret
            for _ in range(_TOKENS):
                tokens = matcher.next_tokens()
                if matcher.too_slow():
                    return TOO_SLOW
                if not len(tokens):
                    break
                matcher.accept(int(tokens[rng.randrange(len(tokens))]))
    except StructureError as error:
        return str(error)
    except MemoryError:
        return _TOO_MUCH
    return None


def _limit_memory() -> None:
    """Of addresses, as far as the system tells how many there are: libraries take gigabytes that they never use."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        most = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
