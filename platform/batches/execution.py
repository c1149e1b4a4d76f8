"""Owns running the lines of a batch: a few at a time, each until it has an answer or a refusal that would stay."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum

import structlog
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.batches.endpoints import LineRunner, tokens_of
from loraplex.platform.batches.lines import LineRequest, read_judged
from loraplex.platform.batches.results import answered, refused
from loraplex.platform.batches.rights import Rights, RightsLostError
from loraplex.platform.batches.store import BatchStore, Result
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.failures import is_away, is_conflict
from loraplex.platform.db.models import Batch
from loraplex.platform.engines.generation import GenerationFailedError
from loraplex.platform.errors import (
    DatabaseUnavailableError,
    EngineUnavailableError,
    LimitExceededError,
    PlatformError,
)
from loraplex.platform.jobs.runner import Progress

# Lines of one batch that run at once in a worker: with two batches of a tenant this fills a third of an engine that
# takes 48, beside what its interactive requests may have.
AT_ONCE = 8
LOOK_SECONDS = 1.0  # a batch that is cancelled or late stops within this time
FAILURES = 3  # of the engine with one line, before it is the line's own fault
# Between attempts at what may go better later; doubled each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class Ending(StrEnum):
    """How the lines came to an end. The values are those of `Batch.status`."""

    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Execution:
    """The lines of one batch."""

    def __init__(
        self, store: BatchStore, runner: LineRunner, rights: Rights, progress: Progress
    ) -> None:
        self._store = store
        self._runner = runner
        self._rights = rights
        self._progress = progress
        self._looked_at = 0.0

    async def run(self, batch: Batch, source: AsyncIterator[bytes]) -> Ending:
        """Run what is not recorded yet.

        Raises:
            RightsLostError: the key may run nothing any more.
            JobStoppedError, JobLostError: go no further.
        """
        done = await self._store.recorded()
        self._progress.total, self._progress.done = batch.total, len(done)
        running: set[asyncio.Task[Result]] = set()
        try:
            async with aclosing(read_judged(source, batch.endpoint)) as requests:
                async for request in requests:
                    if request.number in done:
                        continue
                    running.add(asyncio.create_task(self._run(*request, batch.endpoint)))
                    while len(running) >= AT_ONCE:
                        if (ending := await self._take(running)) is not None:
                            return ending
            while running:
                if (ending := await self._take(running)) is not None:
                    return ending
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return Ending.COMPLETED

    async def _take(self, running: set[asyncio.Task[Result]]) -> Ending | None:
        """Wait for news; record what has ended. An ending if no more is to be run."""
        ended, _ = await asyncio.wait(
            running, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        running -= ended
        results = [task.result() for task in ended if task.exception() is None]
        if results:
            # Shielded: what is cut short leaves a thread behind.
            await asyncio.shield(self._store.record(results))
        for task in ended:
            if (error := task.exception()) is not None:
                raise error
        self._progress.advance(len(results))
        return await self._look()

    async def _look(self) -> Ending | None:
        now = asyncio.get_running_loop().time()
        if now < self._looked_at + LOOK_SECONDS:
            return None
        self._looked_at = now
        batch = await self._store.load()
        if batch.status == "cancelling":
            return Ending.CANCELLED
        return Ending.EXPIRED if batch.expires_at <= utc_now() else None

    async def _run(self, line: int, request: LineRequest, endpoint: str) -> Result:
        failures, pause = 0, FIRST_PAUSE_SECONDS
        while True:
            try:
                principal = await self._rights.principal()
                answer = await self._runner.answer(principal, endpoint, bytes(request.body))
                body = answered(request.custom_id, answer)
                return Result(line, True, body, tokens_of(answer))
            except RightsLostError:
                raise
            except Exception as error:
                failures += isinstance(error, GenerationFailedError)
                if not _may_pass(error) or failures >= FAILURES:
                    known = _known(error, line)
                    return Result(line, False, refused(request.custom_id, known))
                wait = _told(error)
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, max(wait, pause)))
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)


def _may_pass(error: Exception) -> bool:
    """Whether it may go better later. A budget that is used up does not come back within a day."""
    if isinstance(error, LimitExceededError):
        return error.retry_after is not None
    if isinstance(error, SQLAlchemyError | OSError):
        return is_away(error) or is_conflict(error)
    passing = (EngineUnavailableError, DatabaseUnavailableError, GenerationFailedError)
    return isinstance(error, passing)


def _told(error: Exception) -> float:
    """Seconds that a refusal asks to wait."""
    return (error.retry_after or 0.0) if isinstance(error, LimitExceededError) else 0.0


def _known(error: Exception, line: int) -> PlatformError:
    """As the owner of the batch is told."""
    if isinstance(error, PlatformError):
        return error
    trace = "".join(traceback.format_exception(error))
    structlog.get_logger().error(
        "unexpected error in a line of a batch", line=line, traceback=trace
    )
    return PlatformError("Something went wrong on our side; run the request again.")
