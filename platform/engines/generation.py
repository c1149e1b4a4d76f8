"""Owns the reader's side of running generations: what has arrived and was not read yet, merged per generation."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loraplex.engine.request import FinishReason
from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.messages import NOBODY, AdapterFile, Delta, TenantShare
from loraplex.platform.engines.outcome import (
    CANCELLED,
    ERROR,
    LOST,
    Handing,
    Outcome,
    Settle,
    Written,
)
from loraplex.platform.errors import EngineUnavailableError, PlatformError


class GenerationFailedError(PlatformError):
    """The engine gave this generation up, for example because its adapter cannot be loaded; others are not touched."""

    status = 503
    default_code = "generation_failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One generation to run.

    Attributes:
        priority: lower is served earlier.
        account: id of the ledger row it counts for.
        prompt: number of its prompt among those of the request; several jobs may answer the same one.
    """

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterFile | None = None
    cache_salt: bytes = b""
    priority: int = 0
    share: TenantShare = NOBODY
    account: bytes = b""
    prompt: int = 0


class Slot:
    """One job of a `Generation` and where it stands.

    Attributes:
        request_id: its name at the engine; None while it has to be sent (again).
        delivered: the reader has part of the answer, so it cannot be started afresh.
        pending: what has arrived and was not read yet.
        begun: an engine has taken it on, be it one that was lost since.
        first_at, last: when the first token came, and the newest delta; None before.
        settled: its outcome was told.
    """

    __slots__ = (
        "accepted",
        "attempts",
        "begun",
        "delivered",
        "finished",
        "first_at",
        "generation",
        "index",
        "job",
        "last",
        "pending",
        "request_id",
        "settled",
        "started",
        "waiting_since",
    )

    def __init__(self, index: int, job: Job, generation: "Generation") -> None:
        self.index = index
        self.job = job
        self.generation = generation
        self.request_id: str | None = None
        self.attempts = 0
        self.waiting_since = asyncio.get_running_loop().time()
        # Not the loop's clock, which counts whole milliseconds.
        self.started = time.monotonic()
        self.first_at: float | None = None
        self.last: Delta | None = None
        self.begun = False
        self.settled = False
        self.accepted = False
        self.delivered = False
        self.finished = False
        self.pending: list[Delta] = []


class Generation:
    """The generations of one HTTP request, read together.

    What the reader has not taken yet is merged, so a slow reader gets fewer, longer deltas and holds nobody up; the
    memory it can take is that of its own answers. One reader at a time: it waits on a bare future, because at tens of
    thousands of tokens per second every task, event and timeout around a wake-up can be seen.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        close: Callable[["Generation"], None],
        settle: Settle | None = None,
        written: Written | None = None,
        handing: Handing | None = None,
    ) -> None:
        self.slots = [Slot(i, job, self) for i, job in enumerate(jobs)]
        self._close = close
        self._settle = settle
        self._written = written
        self._handing = handing
        self._error: PlatformError | None = None
        self._fresh: list[Slot] = []  # those with something pending
        self._running = len(self.slots)
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf  # of the waiter, on the loop's clock
        self._only_the_end = False  # the reader has no use for anything earlier
        self._reading = False  # something was or will be handed over before the end

    @property
    def failed(self) -> bool:
        """It ended with an error: what comes later is handed to nobody."""
        return self._error is not None

    @property
    def finished(self) -> bool:
        """Every generation has ended and was read to its end."""
        return not self._running and not self._fresh

    def close(self) -> None:
        """Stop whatever still runs. Safe to call at any time and more than once; never waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close(self)
        lost = isinstance(self._error, EngineUnavailableError)
        for slot in self.slots:
            # What no engine has taken on cost nothing, and its caller was told why.
            if slot.begun or lost:
                self.settle(slot, LOST if lost else CANCELLED)

    async def conclude(self) -> None:
        """Close it, and return when what it took is written down, or that takes too long. Before its reader is told of
        the end: should this process and the engine both die in the next moment, nobody else knows what it took."""
        self.close()
        if self._written is not None:
            await self._written()

    def settle(self, slot: Slot, reason: str) -> None:
        """Tell the outcome of a job, if that was not done yet."""
        if slot.settled:
            return
        slot.settled = True
        if self._settle is None:
            return
        last, now = slot.last, time.monotonic()
        output_tokens = last.output_tokens if last is not None else 0
        if reason in (ERROR, LOST) and (self._only_the_end or not self._reading):
            output_tokens = 0  # nothing of a whole answer that fails is handed over, see `fail`
        first = None if slot.first_at is None else slot.first_at - slot.started
        self._settle(
            slot.index,
            Outcome(
                reason,
                len(slot.job.prompt_ids) if slot.begun else 0,
                last.cached_tokens if last is not None else 0,
                output_tokens,
                now - slot.started,
                first,
                last.timings if last is not None else None,
                last.evicted_by if last is not None else None,
            ),
        )

    async def accepted(self) -> None:
        """Return when the engine has taken every job.

        Raises:
            PlatformError: it refused one, or there is no engine.
        """
        while not all(slot.accepted for slot in self.slots):
            await self._wait()

    async def next(self, timeout: float | None = None) -> list[tuple[int, Delta]]:  # noqa: ASYNC109 - no news in time is an answer here
        """What came since the last call, one merged delta per job by its index; empty after `timeout` seconds of
        silence and at the end. What came before a failure is handed over before it is raised: it counts. Whoever tells
        of a good end calls `conclude` before; with a failure that was done.

        Raises:
            PlatformError: the generation failed; nothing more will come.
        """
        self._reading = True
        while self._running and not self._fresh:
            await self._check()
            if not await self._pause(timeout):
                return []
        if not self._fresh:
            await self._check()
        fresh, self._fresh = self._fresh, []
        if len(fresh) > 1:
            fresh.sort(key=_index)
        news = [(slot.index, _take(slot)) for slot in fresh]
        if self._handing is not None:
            for index, delta in news:
                self._handing(index, delta)
        return news

    async def arrived(self, timeout: float) -> bool:  # noqa: ASYNC109 - as above
        """Whether anything can be read, waiting at most `timeout` seconds for it. Takes nothing.

        Raises:
            PlatformError: the generation failed.
        """
        while not self._fresh:
            await self._check()
            if not await self._pause(timeout):
                return False
        return True

    async def collect(self) -> list[Delta]:
        """The whole answers, in the order of the jobs, when they are concluded.

        Raises:
            PlatformError: one of them failed.
        """
        self._only_the_end = True
        while self._running:
            await self._wait()
        await self._check()
        await self.conclude()
        self._fresh = []
        return [_take(slot) for slot in self.slots]

    def push(self, slot: Slot, delta: Delta) -> None:
        """News of one job."""
        if not slot.pending:
            self._fresh.append(slot)
        slot.pending.append(delta)
        if delta.finish_reason is not None:
            slot.finished = True
            self._running -= 1
        elif self._only_the_end:
            return
        self.notify()

    def restart(self, slot: Slot) -> None:
        """Forget what came for a job, none of which was read: it starts afresh."""
        slot.request_id = None
        slot.accepted = False
        slot.last = slot.first_at = None
        if slot.pending:
            slot.pending.clear()
            self._fresh.remove(slot)

    def fail(self, error: PlatformError) -> None:
        """End all of it with an error; the first one counts. What nobody has begun to read is not handed over then."""
        self._error = self._error or error
        if not self._reading:
            for slot in self._fresh:
                slot.pending.clear()
            self._fresh = []
        self.notify()

    def notify(self) -> None:
        """Wake the reader, if it waits."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    async def _check(self) -> None:
        if self._error is not None:
            await self.conclude()
            raise self._error

    async def _wait(self) -> None:
        await self._check()
        await self._pause(None)
        await self._check()

    async def _pause(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - as above
        """Whether there was news, a failure included, within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._deadline = math.inf if timeout is None else loop.time() + timeout
        if timeout is not None and (self._timer is None or self._deadline < self._timer.when()):
            self._arm(loop)
        try:
            came: bool = await waiter
        finally:
            self._waiter = None
        return came

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._deadline, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer outlives many waits, as most end long before their time: making one for each would cost more than
        waking the reader."""
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done() or self._deadline == math.inf:
            return
        if loop.time() < self._deadline:
            self._arm(loop)
        else:
            waiter.set_result(False)


def _index(slot: Slot) -> int:
    return slot.index


def _take(slot: Slot) -> Delta:
    slot.delivered = True
    taken, slot.pending = slot.pending, []
    return taken[0] if len(taken) == 1 else _merge(taken)


def _merge(deltas: list[Delta]) -> Delta:
    last = deltas[-1]
    logprobs = None
    if any(delta.logprobs is not None for delta in deltas):
        logprobs = tuple(entry for delta in deltas for entry in delta.logprobs or ())
    return Delta(
        last.request_id,
        tuple(token for delta in deltas for token in delta.token_ids),
        "".join(delta.text for delta in deltas),
        logprobs,
        last.finish_reason,
        None,
        last.prompt_tokens,
        last.cached_tokens,
        last.output_tokens,
        last.timings,
        next((d.prompt_logprobs for d in deltas if d.prompt_logprobs is not None), None),
        last.embedding,
        last.evicted_by,
    )


def failure(delta: Delta) -> GenerationFailedError | None:
    """The error a delta stands for, if it does."""
    if delta.finish_reason is FinishReason.ERROR:
        return GenerationFailedError(delta.error or "The engine could not finish this request.")
    if delta.finish_reason is FinishReason.ABORT:
        return GenerationFailedError("The engine stopped this request.")
    return None
