"""Owns the state of one generation while it is inside the engine."""

import random
from dataclasses import dataclass, field

from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.request import Request


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation in progress.

    Attributes:
        arrival: running number; earlier requests have smaller ones, and a preempted sequence keeps its own.
        tokens: prompt followed by what was generated.
        num_computed: leading tokens whose KV is in `blocks`.
        blocks: the sequence's block table.
        block_hashes: chain hash of each full block that is in the prefix cache.
        cached_tokens: prompt tokens found in the prefix cache at first admission.
        slot: adapter slot while the sequence runs; None for the base model.
        seed: 64-bit seed of the sampler; the request's own or drawn at random.
        counted: whether its prompt is in the engine's totals; a preempted sequence must not be counted twice.
        passed_over: steps in which later requests were admitted while this one waited for adapter memory.
    """

    request: Request
    arrival: int
    detokenizer: Detokenizer | None
    tokens: list[int] = field(init=False)
    seed: int = field(init=False)
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    cached_tokens: int | None = None
    slot: int | None = None
    passed_over: int = 0
    counted: bool = False

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt_ids)
        seed = self.request.params.seed
        self.seed = random.getrandbits(64) if seed is None else seed % 2**64

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: smaller is served earlier."""
        return (self.request.priority, self.arrival)

    @property
    def num_prompt(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def remaining(self) -> int:
        """Tokens whose KV is not computed yet; 1 while decoding."""
        return len(self.tokens) - self.num_computed
