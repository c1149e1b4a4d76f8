"""Owns an engine without a model: the real scheduler, blocks and adapters, and steps that compute nothing but take
exactly one unit of time. For tests of what is scheduled, in worlds too large to be computed."""

import itertools

import numpy as np
import torch

from loraplex.engine.accounts import OUTPUT_COST
from loraplex.engine.arena import Arena
from loraplex.engine.block_manager import BlockManager
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.lora_pool import LoRAPool
from loraplex.engine.model_config import Module, ModuleKind
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import Request, Share, Timings
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.scheduler import Scheduler
from loraplex.engine.sequence import Sequence
from loraplex.engine.stopwatch import Stopwatch
from support.delayed_source import DelayedSource

_PAGE = 64  # elements
# Steps are 1/64 s long, which floats hold exactly.
_STEPS_PER_SECOND = 64
_MODULES = tuple(
    Module(i, f"layers.0.{name}", ModuleKind.LINEAR, 4, 4)
    for i, name in enumerate(("k_proj", "v_proj"))
)


class SizedSource(DelayedSource):
    """Adapters of chosen sizes in pages, each `delay` collections after its request."""

    def __init__(self, sizes: dict[int, int], delay: int) -> None:
        super().__init__(delay=delay)
        self._sizes = sizes

    def _result(self, handle: int) -> LoadResult:
        if handle in self._sizes:
            # Made when it is asked for: of hundreds of sizes few are.
            buffer = torch.zeros(self._sizes[handle] * _PAGE)
            module, rank, a_row, b_row = (np.array([n]) for n in (0, 1, 0, 4))
            self.weights[handle] = LoRAWeights(buffer, module, rank, a_row, b_row)
        return super()._result(handle)


class Stepless:
    """Attributes:
    now: steps taken.
    admitted: requests in the order of their first admission.
    ended: step in which each request ended, with its timings in steps.
    failed: requests that were refused, and why.
    """

    def __init__(
        self,
        *,
        pages: int,
        sizes: dict[int, int] | None = None,
        delay: int = 0,
        places: int = 8,
        budget: int = 256,
    ) -> None:
        self.now = 0.0
        pool = PagePool(pages)
        arena = Arena(pool, _PAGE, dtype=torch.float32, device=torch.device("cpu"))
        self.source = SizedSource(sizes or {}, delay)
        self.blocks = BlockManager(pool, enable_prefix_cache=False)
        self.pool = LoRAPool(_MODULES, self.source, arena)
        self.scheduler = Scheduler(
            self.blocks,
            self.pool,
            max_num_seqs=places,
            max_num_batched_tokens=budget,
            clock=self._seconds,
        )
        self.sequences: dict[str, Sequence] = {}
        self.admitted: list[Sequence] = []
        self.ended: dict[str, tuple[float, Timings]] = {}
        self.failed: dict[str, str] = {}
        self._numbers = itertools.count()
        self._seen: set[Sequence] = set()

    def add(
        self,
        prompt: int,
        output: int,
        adapter: int | None = None,
        *,
        share: Share | None = None,
        priority: int = 0,
    ) -> Sequence:
        number = next(self._numbers)
        params = SamplingParams(max_tokens=output, ignore_eos=True)
        request = Request(
            str(number),
            (number,) * prompt,
            params,
            adapter,
            priority=priority,
            share=share or Share(),
        )
        sequence = Sequence(request, number, None, stopwatch=Stopwatch(self._seconds()))
        self.sequences[request.request_id] = sequence
        self.scheduler.add(sequence)
        return sequence

    def abort(self, sequence: Sequence) -> None:
        del self.sequences[sequence.request.request_id]
        self.scheduler.finish(sequence)

    def step(self) -> None:
        self.pool.poll()
        self.pool.keep_waiting(self.scheduler.waiting.wanted)
        self.scheduler.look_at_adapters()
        schedule = self.scheduler.schedule(may_preempt=True)
        assert schedule is not None
        for sequence, error in schedule.failed:
            self.failed[sequence.request.request_id] = error
            self._end(sequence)
        self.now += 1
        for sequence, num_tokens in schedule.batch:
            if sequence not in self._seen:
                self._seen.add(sequence)
                self.admitted.append(sequence)
            sequence.num_computed += num_tokens
            if sequence.remaining == 0:
                self._advance(sequence)

    def drain(self, steps: int = 20_000) -> None:
        for _ in range(steps):
            if not self.sequences:
                return
            self.step()
        raise AssertionError(f"{len(self.sequences)} sequences did not come to an end")

    def check(self) -> None:
        pages = self.blocks.check_integrity(list(self.scheduler.running))
        self.pool.check_integrity(self.scheduler.users(), pages)

    def _seconds(self) -> float:
        return self.now / _STEPS_PER_SECOND

    def _advance(self, sequence: Sequence) -> None:
        assert sequence.account is not None
        sequence.account.charge(OUTPUT_COST)
        sequence.tokens.append(0)
        if sequence.num_output == 1:
            sequence.stopwatch.first_token(self._seconds())
        if len(sequence.tokens) == sequence.max_len:
            self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        name = sequence.request.request_id
        timings = sequence.stopwatch.timings(self._seconds())
        queue, load, prefill, decode = (spent * _STEPS_PER_SECOND for spent in timings[:4])
        self.ended[name] = (
            self.now,
            Timings(queue, load, prefill, decode, timings.preemptions, timings.evicted_by),
        )
        del self.sequences[name]
        self.scheduler.finish(sequence)
