"""Owns the decision which sequences take part in the next step, and with how many tokens."""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from loraplex.engine.admission import Admission, Round
from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.lora_pool import LoRAPool
from loraplex.engine.sequence import Sequence

_OUT_OF_MEMORY = (
    "The request has used up all of the server's memory for tokens and cannot go on; shorten the prompt or max_tokens, "
    "or ask the server's operator for more."
)


class Scheduled(NamedTuple):
    """A sequence and how many of its tokens the step computes."""

    sequence: Sequence
    num_tokens: int


class Schedule(NamedTuple):
    """One step: what runs, and which sequences failed for good."""

    batch: list[Scheduled]
    failed: list[tuple[Sequence, str]]


class Scheduler:
    """Continuous batching: decoding sequences first, then unfinished prompts, then preempted and waiting requests.

    A prompt longer than the step's token budget is computed in chunks beside the decodes. Tokens that are pending count
    as if they were known: a sequence is scheduled on while its newest token is still being computed, unless that token
    is the last one it may have.

    When KV blocks run out, the newest sequence of the client that has had most gives its own back. It comes back before
    anything new and is computed again, at no charge.

    Attributes:
        running: in the order of their admission.
        waiting: everything else.
    """

    def __init__(
        self,
        blocks: BlockManager,
        adapters: LoRAPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blocks = blocks
        self._adapters = adapters
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._clock = clock
        self.running: dict[Sequence, None] = {}
        self.num_preemptions = 0
        self._admission = Admission(blocks, adapters, self.running)
        self.waiting = self._admission.waiting
        self._lost: list[tuple[Sequence, str]] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its adapter starts loading at once, unless many others are on their way."""
        self.waiting.add(sequence, sequence.stopwatch.mark)

    def look_at_adapters(self) -> None:
        """Take note of what has happened to adapters; call before every step, after `LoRAPool.poll`
        and `keep_waiting`."""
        self.waiting.look_at_adapters(self._clock())

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
        failed, self._lost = self._lost, []
        # Not before: what is preempted is not computed. Blocks that decoding fills are published when their last token
        # is read.
        for sequence, num_tokens in batch:
            if num_tokens > 1:
                self._blocks.publish(sequence, num_tokens)
        if self.waiting:
            used = sum(item.num_tokens for item in batch)
            round_ = Round(
                self._clock(),
                self._max_num_seqs - len(batch),
                self._max_num_batched_tokens - used,
                self._admission.patience(),
            )
            self._admission.admit(round_)
            batch += [Scheduled(*item) for item in round_.admitted]
            failed += round_.failed
        return Schedule(batch, failed)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds. A step under way may still use that: whatever
        takes it over is launched later."""
        if sequence.running:
            self._stop(sequence)
            self._admission.ended(sequence)
        else:
            self._admission.drop(sequence)

    def users(self) -> Counter[int]:
        """How often each adapter is held; for checks."""
        holder = self._admission.holder
        holders = [*self.running, *([] if holder is None else [holder])]
        return Counter(s.request.adapter for s in holders if s.request.adapter is not None)

    def _schedule_running(self, may_preempt: bool) -> list[Scheduled] | None:
        decodes: list[Scheduled] = []
        prompts: list[Scheduled] = []
        for sequence in self.running:
            length = len(sequence.tokens) + sequence.pending
            remaining = length - sequence.num_computed
            if remaining > 1:
                prompts.append(Scheduled(sequence, remaining))
            elif length < sequence.max_len or not sequence.pending:
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
        """Preempt others until the sequence has its blocks; False if it lost its own instead."""
        self._admission.let_go()
        while not self._blocks.grow(sequence, num_tokens):
            if len(self.running) == 1 and not self._adapters.loading:
                self._lost.append((sequence, _OUT_OF_MEMORY))
                return False
            victim = max(self.running, key=_dispensability)
            assert not victim.pending
            self._stop(victim)
            victim.passed_over = 0
            victim.stopwatch.preemptions += 1
            self.num_preemptions += 1
            self.waiting.take_back(victim, self._clock())
            if victim is sequence:
                return False
        return True

    def _stop(self, sequence: Sequence) -> None:
        del self.running[sequence]
        sequence.running = False
        self._blocks.release(sequence)
        if sequence.request.adapter is not None:
            self._adapters.release(sequence.request.adapter)
        sequence.slot = None
        self.waiting.changes += 1


def _dispensability(sequence: Sequence) -> tuple[float, int]:
    """Largest for the newest sequence of the client that has had most."""
    assert sequence.account is not None
    return sequence.account.client.counter, sequence.arrival
