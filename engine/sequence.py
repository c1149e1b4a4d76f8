"""Owns the state of one generation while it is inside the engine, and the queue such states wait and run in."""

import bisect
import random
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field

from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.request import Request


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation in progress.

    The engine launches a step before it has read the tokens of the one before, so a sequence may be ahead of what the
    host knows: `pending` tokens were sampled, or will be by a step already launched, and are not in `tokens` yet.

    Attributes:
        arrival: running number; earlier requests have smaller ones, and a preempted sequence keeps its own.
        order: sort key; smaller is served earlier.
        tokens: prompt followed by what was generated and is known on the host.
        pending: see above; 0 to 2.
        sampled_row: row of the newest pending token among the tokens its step samples.
        num_computed: leading tokens whose KV is in `blocks` once every launched step has run.
        num_prompt: length of the prompt.
        min_len, max_len: no stop before this many tokens in all, and the end at that many.
        stop_ids: tokens that end the sequence from `min_len` on.
        blocks: the sequence's block table; `row` is its row in `BlockManager.tables`, -1 without blocks.
        block_hashes: chain hash of each full block that is in the prefix cache.
        cached_tokens: prompt tokens found in the prefix cache at first admission.
        running: whether the scheduler has admitted it.
        slot: adapter slot while the sequence runs; None for the base model.
        seed: 64-bit seed of the sampler; the request's own or drawn at random.
        counted: whether its prompt is in the engine's totals; a preempted sequence must not be counted twice.
        passed_over: steps in which later requests were admitted while this one waited for adapter memory.
    """

    request: Request
    arrival: int
    detokenizer: Detokenizer | None
    eos_token_ids: InitVar[tuple[int, ...]] = ()
    max_model_len: InitVar[int] = 2**31
    order: tuple[int, int] = field(init=False)
    tokens: list[int] = field(init=False)
    num_prompt: int = field(init=False)
    min_len: int = field(init=False)
    max_len: int = field(init=False)
    stop_ids: frozenset[int] = field(init=False)
    seed: int = field(init=False)
    pending: int = 0
    sampled_row: int = 0
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list)
    row: int = -1
    block_hashes: list[bytes] = field(default_factory=list)
    cached_tokens: int | None = None
    running: bool = False
    slot: int | None = None
    passed_over: int = 0
    counted: bool = False

    def __post_init__(self, eos_token_ids: tuple[int, ...], max_model_len: int) -> None:
        request, params = self.request, self.request.params
        self.order = (request.priority, self.arrival)
        self.tokens = list(request.prompt_ids)
        self.num_prompt = len(self.tokens)
        self.min_len = self.num_prompt + params.min_tokens
        self.max_len = max_model_len
        if params.max_tokens is not None:  # the engine refuses more than fit the model
            self.max_len = self.num_prompt + params.max_tokens
        self.stop_ids = frozenset(params.stop_token_ids)
        if not params.ignore_eos:
            self.stop_ids |= frozenset(eos_token_ids)
        self.seed = random.getrandbits(64) if params.seed is None else params.seed % 2**64

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def remaining(self) -> int:
        """Tokens whose KV no launched step computes; 1 while decoding."""
        return len(self.tokens) + self.pending - self.num_computed


class SequenceQueue:
    """Sequences by `order`. Finding one is a binary search, as thousands may wait."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def last(self) -> Sequence:
        """The one that is served last."""
        return self._sequences[-1]

    def add(self, sequence: Sequence) -> None:
        bisect.insort(self._sequences, sequence, key=_order)

    def remove(self, sequence: Sequence) -> bool:
        """Take a sequence out; False if it is not here."""
        at = bisect.bisect_left(self._sequences, sequence.order, key=_order)
        if at == len(self._sequences) or self._sequences[at] is not sequence:
            return False
        del self._sequences[at]
        return True


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order
