"""Owns running jobs in an API worker: a few at once, each kept ours while it is at work, each ended once."""

import asyncio
import random
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.database import Database
from loraplex.platform.errors import PlatformError
from loraplex.platform.jobs.leases import MAX_ATTEMPTS, Claim, JobLostError, JobQueue, JobState

AT_ONCE = 2  # in one API worker, which has requests to answer meanwhile
# Often enough that a job of a dead worker does not wait long; a new one wakes the worker that made it.
POLL_SECONDS = 5.0
# Jobs have this long to stop at the end; less than the worker leaves its chores.
STOP_SECONDS = 3.0

_OURS = "Something went wrong on our side; quote the job's id when you report it."


class JobStoppedError(Exception):
    """The job is not to be gone on with: the worker ends, or the job is no longer ours."""


class Progress:
    """How far a job is, and whether it shall go on."""

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        self._stopped = False

    def advance(self, amount: int) -> None:
        """Note what was done.

        Raises:
            JobStoppedError: go no further.
        """
        if self._stopped:
            raise JobStoppedError
        self.done += amount

    def stop(self) -> None:
        """Let the next step be the last."""
        self._stopped = True

    def as_dict(self) -> dict[str, object]:
        """As it is stored."""
        return {"done": self.done, "total": self.total}


class JobKind(Protocol):
    """What jobs of one kind do."""

    async def run(self, claim: Claim, progress: Progress) -> None:
        """Work, and end the job with `queue.succeed` in the transaction that makes the result visible.

        Raises:
            PlatformError: it cannot be done; the message tells its owner why.
        """
        ...

    async def failed(self, session: AsyncSession, claim: Claim, error: str) -> None:
        """Within the transaction that ends a job without a result."""
        ...

    def forget(self, job_id: UUID) -> None:
        """A job has ended here; nothing more of it is needed."""
        ...


class JobRunner:
    """The jobs this worker runs.

    Args:
        ended: told the kind and the state of each job that ended here.
        at_once: of them in one worker.
        attempts: how many holders may die of one job before it is given up.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        kinds: Mapping[str, JobKind],
        ended: Callable[[str, str], None],
        *,
        at_once: int = AT_ONCE,
        attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self._database = database
        self._queue = queue
        self._kinds = kinds
        self._ended = ended
        self._at_once = at_once
        self._attempts = attempts
        self._woken = asyncio.Event()
        self._own: list[UUID] = []
        self._log = structlog.get_logger()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def keep(self, job_id: UUID) -> None:
        """Run a job that was made for this process: nobody else can."""
        self._own.append(job_id)
        self.wake()

    async def run(self, ending: asyncio.Event) -> None:
        """Take up jobs until `ending` is set; those under way are then given back."""
        working: dict[asyncio.Task[None], Progress] = {}
        while not ending.is_set():
            self._woken.clear()
            try:
                await self._fill(working)
            except SQLAlchemyError as error:
                self._log.error("jobs cannot be taken", error=str(error))
            await self._pause(ending)
        for progress in working.values():
            progress.stop()
        if working:
            await asyncio.wait(working, timeout=STOP_SECONDS)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    async def _fill(self, working: dict[asyncio.Task[None], Progress]) -> None:
        for task in [task for task in working if task.done()]:
            del working[task]
        while len(working) < self._at_once and (claim := await self._take()) is not None:
            progress = Progress()
            task = asyncio.create_task(self._work(claim, progress))
            task.add_done_callback(lambda _: self.wake())
            working[task] = progress
        if self._own:
            waiting = await self._queue.keep(self._own)
            for job_id in [job_id for job_id in self._own if job_id not in waiting]:
                # It was cancelled, or its tenant is gone.
                self._own.remove(job_id)
                for kind in self._kinds.values():
                    kind.forget(job_id)

    async def _take(self) -> Claim | None:
        for job_id in list(self._own):
            claim = await self._queue.take_own(job_id)
            if claim is not None:
                self._own.remove(job_id)
                return claim
        return await self._queue.take()

    async def _pause(self, ending: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (ending, self._woken)]
        pause = POLL_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # no secret
        await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _work(self, claim: Claim, progress: Progress) -> None:
        kind = self._kinds.get(claim.kind)
        if kind is None:
            await self._fail(claim, "This server does not know such jobs any more.")
            return
        renewing = asyncio.create_task(self._renew(claim, progress))
        try:
            if claim.attempt > self._attempts:
                await self._fail(
                    claim,
                    f"It was begun {self._attempts} times and the server stopped each time; try again later.",
                )
                return
            await kind.run(claim, progress)
            self._ended(claim.kind, JobState.SUCCEEDED)
        except PlatformError as error:
            await self._fail(claim, error.message)
        except (JobStoppedError, asyncio.CancelledError):
            # Does nothing where the job was lost or cancelled.
            await asyncio.shield(self._queue.release(claim))
        except JobLostError:
            self._log.warning("job lost to another worker", job=str(claim.id))
        except SQLAlchemyError as error:
            # It stays ours until its lease ends; then it is begun again.
            self._log.error("job broke off", job=str(claim.id), error=str(error))
        except Exception as error:  # whatever it is, the job's owner is told
            trace = "".join(traceback.format_exception(error))
            self._log.error("unexpected error in a job", job=str(claim.id), traceback=trace)
            await self._fail(claim, _OURS)
        finally:
            renewing.cancel()
            kind.forget(claim.id)

    async def _renew(self, claim: Claim, progress: Progress) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS / 2)
            try:
                # Shielded: a query that is cut short leaves a thread behind.
                if not await asyncio.shield(self._queue.renew(claim, progress.as_dict())):
                    progress.stop()
            except SQLAlchemyError as error:
                self._log.error("job not renewed", job=str(claim.id), error=str(error))

    async def _fail(self, claim: Claim, message: str) -> None:
        with suppress(JobLostError):
            async with self._database.main.writing(claim.tenant_id) as session:
                if not await self._queue.fail(session, claim, message):
                    raise JobLostError
                if kind := self._kinds.get(claim.kind):
                    await kind.failed(session, claim, message)
            self._ended(claim.kind, JobState.FAILED)
