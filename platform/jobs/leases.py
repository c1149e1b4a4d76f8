"""Owns the rows of jobs while these wait and run: who holds which, until when, and how each ends. A holder renews its
lease; a job whose holder has died is taken up by another."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import cast
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, Update, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Job
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError

# A worker that has not renewed for so long is dead, or so late that it must not go on.
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3  # holders that may die of one job before it is given up
MAX_OPEN = 32  # jobs of one tenant that wait or run
RUNNING_PER_TENANT = 2  # so that one tenant's imports do not hold up the others'
KEPT = timedelta(days=30)  # a job that has ended
# Batches take hours: they have runners of their own, and routes of their own that show them.
BATCH = "batch"


class JobState(StrEnum):
    """A job waits, runs, and ends one of two ways."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OPEN = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours, until the lease ends or somebody cancels it. `attempt` tells holders apart: what an earlier
    one still writes finds no row."""

    id: UUID
    tenant_id: UUID
    kind: str
    request: dict[str, object]
    created_by: str
    attempt: int


class JobQueue:
    """The jobs of all tenants, for those who run them.

    Args:
        batches: those that are batches, in place of all others.
    """

    def __init__(self, database: Database, *, batches: bool = False) -> None:
        self._database = database
        self._batches = batches

    async def take(self) -> Claim | None:
        """The job that has waited longest and may run, now ours; None if there is none."""
        now = utc_now()
        # Looked at before, because taking one locks out every other writer on SQLite.
        async with self._database.main.reading(EVERY_TENANT) as session:
            if await session.scalar(select(Job.id).where(self._free(now)).limit(1)) is None:
                return None
        other = aliased(Job)
        at_work = (
            select(func.count())
            .select_from(other)
            .where(
                other.tenant_id == Job.tenant_id,
                self._own(other.kind),
                other.state == JobState.RUNNING,
                other.locked_until >= now,
            )
            .scalar_subquery()
        )
        query = (
            select(Job)
            .where(self._free(now), at_work < RUNNING_PER_TENANT)
            .order_by(Job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            job = await session.scalar(query)
            return None if job is None else _claim(job)

    async def take_own(self, job_id: UUID) -> Claim | None:
        """A job that was kept for this process when it was made; None if it is gone, or its tenant has enough at
        work."""
        running = select(func.count()).where(
            self._own(Job.kind), Job.state == JobState.RUNNING, Job.locked_until >= utc_now()
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            query = select(Job).where(Job.id == job_id, Job.state == JobState.QUEUED)
            job = await session.scalar(query.with_for_update())
            if job is None:
                return None
            at_work = await session.scalar(running.where(Job.tenant_id == job.tenant_id)) or 0
            return None if at_work >= RUNNING_PER_TENANT else _claim(job)

    async def renew(self, claim: Claim, progress: dict[str, object]) -> bool:
        """Keep a job for another lease, noting how far it is; whether it is still ours."""
        values = {"locked_until": utc_now() + LEASE, "result": {"progress": progress}}
        async with self._database.main.writing(EVERY_TENANT) as session:
            return await _changed(session, _held(claim).values(values))

    async def keep(self, job_ids: Sequence[UUID]) -> set[UUID]:
        """Renew what waits for this process alone; which of them still wait."""
        waiting = (
            update(Job)
            .where(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
            .values(locked_until=utc_now() + LEASE)
            .returning(Job.id)
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            return set(await session.scalars(waiting))

    async def release(self, claim: Claim) -> None:
        """Give back a job that could not be worked on, as if it had not been taken."""
        values = {"state": JobState.QUEUED, "locked_until": None, "attempts": claim.attempt - 1}
        async with self._database.main.writing(EVERY_TENANT) as session:
            await session.execute(_held(claim).values(values))

    async def fail(self, session: AsyncSession, claim: Claim, error: str) -> bool:
        """Within a transaction: end a job without a result; whether it was ours to end."""
        return await _changed(session, _held(claim).values(_end(JobState.FAILED, None, error)))

    async def clean(self) -> int:
        """Remove jobs that ended long ago; how many."""
        old = delete(Job).where(Job.ended_at < utc_now() - KEPT)
        async with self._database.main.writing(EVERY_TENANT) as session:
            return cast("CursorResult[object]", await session.execute(old)).rowcount

    def _free(self, now: object) -> ColumnElement[bool]:
        unheld = or_(Job.locked_until.is_(None), Job.locked_until < now)
        return self._own(Job.kind) & Job.state.in_(OPEN) & unheld

    def _own(self, kind: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return kind == BATCH if self._batches else kind != BATCH


async def enqueue(session: AsyncSession, job: Job, *, keep: bool = False) -> None:
    """Within a transaction of the job's tenant: make a job. With `keep` it is for this process, which renews it.

    Raises:
        ConflictError: the tenant has `MAX_OPEN` jobs, or as many batches, that have not ended.
    """
    alike = Job.kind == BATCH if job.kind == BATCH else Job.kind != BATCH
    count = select(func.count()).where(Job.tenant_id == job.tenant_id, alike, Job.state.in_(OPEN))
    if (await session.scalar(count) or 0) >= MAX_OPEN:
        raise ConflictError(
            f"There are {MAX_OPEN} jobs that have not ended; wait for one.", code="too_many_jobs"
        )
    if keep:
        job.locked_until = utc_now() + LEASE
    session.add(job)


async def succeed(session: AsyncSession, claim: Claim, result: dict[str, object]) -> None:
    """Within the transaction that makes the result visible: end a job.

    Raises:
        JobLostError: it is no longer ours; the transaction must not be kept.
    """
    if not await _changed(session, _held(claim).values(_end(JobState.SUCCEEDED, result, None))):
        raise JobLostError


class JobLostError(Exception):
    """Somebody else has the job now, or cancelled it."""


def _claim(job: Job) -> Claim:
    job.state = JobState.RUNNING
    job.locked_until = utc_now() + LEASE
    job.attempts += 1
    return Claim(job.id, job.tenant_id, job.kind, job.request, job.created_by, job.attempts)


def _held(claim: Claim) -> Update:
    return update(Job).where(
        Job.id == claim.id, Job.attempts == claim.attempt, Job.state == JobState.RUNNING
    )


def _end(state: JobState, result: dict[str, object] | None, error: str | None) -> dict[str, object]:
    return {
        "state": state,
        "result": result,
        "error": error,
        "locked_until": None,
        "ended_at": utc_now(),
    }


async def _changed(session: AsyncSession, statement: Update) -> bool:
    return cast("CursorResult[object]", await session.execute(statement)).rowcount == 1
