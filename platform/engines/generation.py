"""Owns the reader's side of running generations: what has arrived and was not read yet, merged per generation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loraplex.engine.request import FinishReason
from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.messages import AdapterFile, Delta
from loraplex.platform.errors import PlatformError


class GenerationFailedError(PlatformError):
    """The engine gave this generation up, for example because its adapter cannot be loaded; others are not touched."""

    status = 503
    default_code = "generation_failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One generation to run; `priority`: lower is served earlier."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterFile | None = None
    cache_salt: bytes = b""
    priority: int = 0


class Slot:
    """One job of a `Generation` and where it stands."""

    def __init__(self, job: Job, generation: "Generation") -> None:
        self.job = job
        self.generation = generation
        self.request_id: str | None = (
            None  # its name at the engine; None while it has to be sent (again)
        )
        self.attempts = 0
        self.waiting_since = asyncio.get_running_loop().time()
        self.accepted = False
        self.delivered = False  # the reader has part of the answer, so it cannot be started afresh
        self.finished = False
        self.pending: list[Delta] = []


class Generation:
    """The generations of one HTTP request, read together.

    What the reader has not taken yet is merged, so a slow reader gets fewer, longer deltas and holds nobody up; the
    memory it can take is that of its own answers.
    """

    def __init__(self, jobs: Sequence[Job], close: Callable[["Generation"], None]) -> None:
        self.slots = [Slot(job, self) for job in jobs]
        self._close = close
        self._error: PlatformError | None = None
        self._news = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Every generation has ended and was read to its end."""
        return all(slot.finished and not slot.pending for slot in self.slots)

    def close(self) -> None:
        """Stop whatever still runs. Safe to call at any time and more than once; never waits."""
        self._close(self)

    async def accepted(self) -> None:
        """Return when the engine has taken every job.

        Raises:
            PlatformError: it refused one, or there is no engine.
        """
        while not all(slot.accepted for slot in self.slots):
            await self._wait(None)

    async def next(self, timeout: float | None = None) -> list[tuple[int, Delta]]:  # noqa: ASYNC109 - no news in time is an answer here
        """What came since the last call, one merged delta per job by its index; empty after `timeout` seconds of
        silence and at the end.

        Raises:
            PlatformError: the generation failed; nothing more will come.
        """
        while not self.finished and not any(slot.pending for slot in self.slots):
            if not await self._wait(timeout):
                return []
        self._raise()
        return [(i, _take(slot)) for i, slot in enumerate(self.slots) if slot.pending]

    async def arrived(self, timeout: float) -> bool:  # noqa: ASYNC109 - as above
        """Whether anything can be read, waiting at most `timeout` seconds for it. Takes nothing.

        Raises:
            PlatformError: the generation failed.
        """
        while not any(slot.pending for slot in self.slots):
            if not await self._wait(timeout):
                return False
        self._raise()
        return True

    async def collect(self) -> list[Delta]:
        """The whole answers, in the order of the jobs.

        Raises:
            PlatformError: one of them failed.
        """
        while not all(slot.finished for slot in self.slots):
            await self._wait(None)
        self._raise()
        return [_take(slot) for slot in self.slots]

    def fail(self, error: PlatformError) -> None:
        """End all of it with an error; the first one counts."""
        self._error = self._error or error
        self.notify()

    def notify(self) -> None:
        self._news.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    async def _wait(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - as above
        self._raise()
        self._news.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        self._raise()
        return True


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
    )


def failure(delta: Delta) -> GenerationFailedError | None:
    """The error a delta stands for, if it does."""
    if delta.finish_reason is FinishReason.ERROR:
        return GenerationFailedError(delta.error or "The engine could not finish this request.")
    if delta.finish_reason is FinishReason.ABORT:
        return GenerationFailedError("The engine stopped this request.")
    return None
