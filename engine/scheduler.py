"""Owns the decision which sequences take part in the next step, and with how many tokens."""

import bisect
from typing import NamedTuple

from loraplex.engine.block_manager import BlockManager
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.sequence import Sequence

# A request that waits for adapter memory lets at most this many admissions pass before it holds the queue, so that
# busy adapters cannot keep a cold one out for ever.
MAX_PASSED_OVER = 64


class Scheduled(NamedTuple):
    """A sequence and how many of its tokens the step computes."""

    sequence: Sequence
    num_tokens: int


class Schedule(NamedTuple):
    """One step: what runs, and which waiting sequences failed for good."""

    batch: list[Scheduled]
    failed: list[tuple[Sequence, str]]


class Scheduler:
    """Continuous batching: decoding sequences first, then unfinished prompts, then waiting requests in their order.

    A prompt longer than the step's token budget is computed in chunks beside the decodes. When KV blocks run out, the
    sequence that came last gives its own back and is computed again later.
    """

    def __init__(
        self,
        blocks: BlockManager,
        adapters: LoRAPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
    ) -> None:
        self._blocks = blocks
        self._adapters = adapters
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self.waiting: list[Sequence] = []
        # A dict for its order and its quick membership.
        self.running: dict[Sequence, None] = {}
        self.num_preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its adapter starts loading at once, unless many others are on their way."""
        if sequence.request.adapter is not None:
            self._adapters.prefetch(sequence.request.adapter)
        self._enqueue(sequence)

    def schedule(self) -> Schedule:
        """Choose the next step; on return every chosen sequence holds the blocks and the adapter it needs."""
        batch = self._schedule_running()
        used = sum(item.num_tokens for item in batch)
        admitted, failed = self._admit(self._max_num_batched_tokens - used)
        return Schedule(batch + admitted, failed)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return
        del self.running[sequence]
        self._give_back(sequence)

    def _enqueue(self, sequence: Sequence) -> None:
        bisect.insort(self.waiting, sequence, key=lambda s: s.order)

    def _schedule_running(self) -> list[Scheduled]:
        batch: list[Scheduled] = []
        budget = self._max_num_batched_tokens
        # Decodes before chunks of prompts: a token someone waits for must not queue behind somebody's long prompt.
        for sequence in sorted(self.running, key=lambda s: (s.remaining > 1, s.order)):
            if sequence not in self.running:  # preempted by an earlier turn of this loop
                continue
            num_tokens = min(sequence.remaining, budget)
            if num_tokens == 0:
                break
            if self._make_room(sequence, sequence.num_computed + num_tokens):
                batch.append(Scheduled(sequence, num_tokens))
                budget -= num_tokens
        # A later turn may have preempted a sequence that was chosen before it.
        return [item for item in batch if item.sequence in self.running]

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        while not self._blocks.grow(sequence, num_tokens):
            victim = max(self.running, key=lambda s: s.order)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        del self.running[sequence]
        self._give_back(sequence)
        self.num_preemptions += 1
        self._enqueue(sequence)

    def _admit(self, budget: int) -> tuple[list[Scheduled], list[tuple[Sequence, str]]]:
        admitted: list[Scheduled] = []
        failed: list[tuple[Sequence, str]] = []
        passed: list[Sequence] = []
        for sequence in list(self.waiting):
            if len(self.running) >= self._max_num_seqs or budget <= 0:
                break
            handle = sequence.request.adapter
            if handle is not None:
                residency = self._adapters.acquire(handle)
                if residency is Residency.FAILED:
                    self.waiting.remove(sequence)
                    failed.append((sequence, self._adapters.failure(handle)))
                    continue
                if residency is Residency.FULL:
                    if sequence.passed_over >= MAX_PASSED_OVER:
                        break
                    passed.append(sequence)
                    continue
                if residency is Residency.LOADING:
                    continue
            num_tokens = self._start(sequence, budget)
            if num_tokens == 0:
                if handle is not None:
                    self._adapters.release(handle)
                break
            admitted.append(Scheduled(sequence, num_tokens))
            budget -= num_tokens
            for other in passed:
                other.passed_over += 1
        return admitted, failed

    def _start(self, sequence: Sequence, budget: int) -> int:
        """Give a sequence KV for its whole prompt, so that prompts do not preempt each other; 0 if there is no room."""
        blocks, handle = self._blocks, sequence.request.adapter
        blocks.match_prefix(sequence)
        if not blocks.grow(sequence, len(sequence.tokens)):
            blocks.release(sequence)
            return 0
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.num_computed
        sequence.slot = None if handle is None else self._adapters.slot(handle)
        self.waiting.remove(sequence)
        self.running[sequence] = None
        return min(sequence.remaining, budget)

    def _give_back(self, sequence: Sequence) -> None:
        self._blocks.release(sequence)
        if sequence.request.adapter is not None:
            self._adapters.release(sequence.request.adapter)
        sequence.slot = None
