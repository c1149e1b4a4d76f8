"""Owns the state of one generation while it is inside the engine."""

import random
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from loraplex.engine.accounts import AdapterAccount
from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.pooling import Pooling
from loraplex.engine.request import Request, TokenLogprob
from loraplex.engine.stopwatch import Stopwatch
from loraplex.engine.structured.port import Matcher

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation in progress.

    The engine launches a step before it has read the tokens of the one before, so a sequence may be ahead of what the
    host knows: `pending` tokens were sampled, or will be by a step already launched, and are not in `tokens` yet.

    Attributes:
        arrival: running number; earlier requests have smaller ones, and a preempted sequence keeps its own.
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
        prompt_logprobs: those known so far, in order; None if they are not asked for.
        pooling: how its prompt becomes a vector; None if it is continued.
        state_sum: [hidden size] float32 on the device, the sum of the states of computed tokens, if their mean is asked
            for and some are missing.
        counted: whether its prompt is in the engine's totals; a preempted sequence must not be counted twice.
        passed_over: how many later requests were admitted while memory alone kept this one out.
        held: whether its turn has come and memory keeps it out.
        holds_adapter: whether it holds its adapter though it still waits for KV blocks.
        account: where its tokens are charged.
        stopwatch: where its time goes.
        matcher: where its output stands in the structure it is to have; None without one.
    """

    request: Request
    arrival: int
    detokenizer: Detokenizer | None
    eos_token_ids: InitVar[tuple[int, ...]] = ()
    max_model_len: InitVar[int] = 2**31
    tokens: list[int] = field(init=False)
    num_prompt: int = field(init=False)
    min_len: int = field(init=False)
    max_len: int = field(init=False)
    stop_ids: frozenset[int] = field(init=False)
    seed: int = field(init=False)
    prompt_logprobs: list[TokenLogprob] | None = field(init=False)
    pooling: Pooling | None = field(init=False)
    state_sum: "torch.Tensor | None" = None
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
    held: bool = False
    holds_adapter: bool = False
    counted: bool = False
    account: AdapterAccount | None = None
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch(0.0))
    matcher: Matcher | None = None

    def __post_init__(self, eos_token_ids: tuple[int, ...], max_model_len: int) -> None:
        request, params = self.request, self.request.params
        self.tokens = list(request.prompt_ids)
        self.num_prompt = len(self.tokens)
        self.min_len = self.num_prompt + params.min_tokens
        self.max_len = max_model_len
        if params.max_tokens is not None:  # the engine refuses more than fit the model
            self.max_len = self.num_prompt + params.max_tokens
        self.prompt_logprobs = None if params.prompt_logprobs is None else []
        self.pooling = params.pooling
        self.stop_ids = frozenset(params.stop_token_ids)
        if not params.ignore_eos:
            self.stop_ids |= frozenset(eos_token_ids)
        self.seed = random.getrandbits(64) if params.seed is None else params.seed % 2**64

    @property
    def admitted(self) -> bool:
        """Whether it runs or has been preempted."""
        return self.cached_tokens is not None

    @property
    def reusable(self) -> int:
        """Leading tokens whose KV may come from the prefix cache: at least one is computed, and so are those whose
        logits or states are asked for and not known."""
        if self.pooling is not None and self.pooling.method == "mean":
            return 0
        scores = self.prompt_logprobs
        if scores is None or len(scores) >= self.num_prompt - 1:
            return len(self.tokens) - 1
        return len(scores)

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def remaining(self) -> int:
        """Tokens whose KV no launched step computes; 1 while decoding."""
        return len(self.tokens) + self.pending - self.num_computed
