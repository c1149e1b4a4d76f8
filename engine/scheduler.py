"""Owns the decision which sequences take part in the next step, and with how many tokens."""

from collections import Counter
from typing import NamedTuple

from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.sequence import Sequence, SequenceQueue

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

    Tokens that are pending count as if they were known: a sequence is scheduled on while its newest token is still
    being computed, unless that token is the last one it may have.

    Attributes:
        waiting, running: every sequence of the engine is in one of them.
        waiting_adapters: adapters of waiting sequences and how many want each.
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
        self.waiting = SequenceQueue()
        self.running = SequenceQueue()
        self.waiting_adapters: Counter[int] = Counter()
        self.num_preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its adapter starts loading at once, unless many others are on their way."""
        if sequence.request.adapter is not None:
            self._adapters.prefetch(sequence.request.adapter)
        self._enqueue(sequence)

    def schedule(self, *, may_preempt: bool) -> Schedule | None:
        """Choose the next step; on return every chosen sequence holds the blocks and the adapter it needs.

        Args:
            may_preempt: whether a sequence may be made to give its blocks back, for which no token may be pending.

        Returns:
            None if blocks ran out and `may_preempt` forbids what helps; scheduling again later starts afresh.
        """
        batch = self._schedule_running(may_preempt)
        if batch is None:
            return None
        if not self.waiting:
            return Schedule(batch, [])
        used = sum(item.num_tokens for item in batch)
        admitted, failed = self._admit(
            self._max_num_seqs - len(batch), self._max_num_batched_tokens - used
        )
        return Schedule(batch + admitted, failed)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds. A step under way may still use that: whatever
        takes it over is launched later."""
        if sequence.running:
            self._stop(sequence)
        else:
            self._dequeue(sequence)

    def _enqueue(self, sequence: Sequence) -> None:
        self.waiting.add(sequence)
        if sequence.request.adapter is not None:
            self.waiting_adapters[sequence.request.adapter] += 1

    def _dequeue(self, sequence: Sequence) -> None:
        adapter = sequence.request.adapter
        if self.waiting.remove(sequence) and adapter is not None:
            self.waiting_adapters[adapter] -= 1
            if not self.waiting_adapters[adapter]:
                del self.waiting_adapters[adapter]

    def _schedule_running(self, may_preempt: bool) -> list[Scheduled] | None:
        decodes: list[Scheduled] = []
        prompts: list[Scheduled] = []
        for sequence in self.running:
            length = len(sequence.tokens) + sequence.pending
            remaining = length - sequence.num_computed
            if remaining > 1:
                prompts.append(Scheduled(sequence, remaining))
            elif length < sequence.max_len:
                decodes.append(Scheduled(sequence, 1))
        batch: list[Scheduled] = []
        budget = self._max_num_batched_tokens
        preempted = self.num_preemptions
        # Decodes before chunks of prompts: a token someone waits for must not queue behind somebody's long prompt.
        for item in decodes + prompts:
            sequence, num_tokens = item
            if budget == 0:
                break
            if not sequence.running:  # preempted by an earlier turn of this loop
                continue
            if num_tokens > budget:
                num_tokens = budget
                item = Scheduled(sequence, num_tokens)
            end = sequence.num_computed + num_tokens
            if end > len(sequence.blocks) * BLOCK_SIZE and not self._blocks.grow(sequence, end):
                if not may_preempt:
                    return None
                if not self._make_room(sequence, end):
                    continue
            batch.append(item)
            budget -= num_tokens
        if preempted != self.num_preemptions:
            # A later turn may have preempted a sequence that was chosen before it.
            batch = [item for item in batch if item.sequence.running]
        return batch

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        while not self._blocks.grow(sequence, num_tokens):
            victim = self.running.last()
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        assert not sequence.pending
        self._stop(sequence)
        self.num_preemptions += 1
        self._enqueue(sequence)

    def _admit(
        self, places: int, budget: int
    ) -> tuple[list[Scheduled], list[tuple[Sequence, str]]]:
        admitted: list[Scheduled] = []
        failed: list[tuple[Sequence, str]] = []
        passed: list[Sequence] = []
        loading: set[int | None] = set()  # asked about already: thousands may wait for one adapter
        for sequence in list(self.waiting) if places > 0 and budget > 0 else ():
            handle = sequence.request.adapter
            if handle in loading:
                continue
            residency = Residency.READY if handle is None else self._adapters.acquire(handle)
            if residency is Residency.LOADING:
                loading.add(handle)
            elif residency is Residency.FAILED and handle is not None:
                self._dequeue(sequence)
                failed.append((sequence, self._adapters.failure(handle)))
            elif residency is Residency.FULL:
                if sequence.passed_over >= MAX_PASSED_OVER:
                    break
                passed.append(sequence)
            elif num_tokens := self._start(sequence, budget):
                admitted.append(Scheduled(sequence, num_tokens))
                budget -= num_tokens
                for other in passed:
                    other.passed_over += 1
                if len(admitted) == places or budget <= 0:
                    break
            else:
                break
        return admitted, failed

    def _start(self, sequence: Sequence, budget: int) -> int:
        """Give a sequence that holds its adapter KV for its whole prompt, so that prompts do not preempt each other.
        Returns how many tokens it computes first; 0 if there is no room, and then its adapter is let go."""
        blocks, handle = self._blocks, sequence.request.adapter
        blocks.match_prefix(sequence)
        if not blocks.grow(sequence, len(sequence.tokens)):
            blocks.release(sequence)
            if handle is not None:
                self._adapters.release(handle)
            return 0
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.num_computed
        sequence.slot = None if handle is None else self._adapters.slot(handle)
        self._dequeue(sequence)
        self.running.add(sequence)
        sequence.running = True
        return min(sequence.remaining, budget)

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        sequence.running = False
        self._blocks.release(sequence)
        if sequence.request.adapter is not None:
            self._adapters.release(sequence.request.adapter)
        sequence.slot = None
