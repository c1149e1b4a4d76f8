"""Owns what tenants do with their jobs: look, and cancel."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, select, update

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Job
from loraplex.platform.errors import ConflictError, NotFoundError
from loraplex.platform.jobs.leases import BATCH, OPEN, JobState

CANCELLED = "It was cancelled."


class JobService:
    """The jobs of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, actor: Principal, tenant_id: UUID, before: UUID | None, limit: int
    ) -> Sequence[Job]:
        """Jobs, newest first, made before `before`."""
        query = select(Job).where(_seen_by(actor)).order_by(Job.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Job.id < before)
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def get(self, actor: Principal, tenant_id: UUID, job_id: UUID) -> Job:
        """One job.

        Raises:
            NotFoundError: the tenant has no such job.
        """
        async with self._database.main.reading(tenant_id) as session:
            job = await session.scalar(select(Job).where(Job.id == job_id, _seen_by(actor)))
        if job is None:
            raise NotFoundError("There is no such job.")
        return job

    async def cancel(self, actor: Principal, tenant_id: UUID, job_id: UUID) -> None:
        """End a job that has not ended; who runs it stops within seconds.

        Raises:
            NotFoundError: the tenant has no such job.
            ConflictError: it has ended.
        """
        job = await self.get(actor, tenant_id, job_id)
        ended = (
            update(Job)
            .where(Job.id == job_id, Job.state.in_(OPEN))
            .values(
                state=JobState.FAILED,
                error=CANCELLED,
                result=None,
                locked_until=None,
                ended_at=utc_now(),
            )
        )
        async with self._database.main.writing(tenant_id) as session:
            if cast("CursorResult[object]", await session.execute(ended)).rowcount != 1:
                raise ConflictError("The job has ended already.")
            record(session, actor, "job.cancel", str(job_id), tenant_id, kind=job.kind)


def _seen_by(actor: Principal) -> ColumnElement[bool]:
    """Jobs are about an adapter, by name; a key that is confined to some sees theirs. Batches are shown elsewhere."""
    about_adapters = Job.kind != BATCH
    if actor.adapters is None:
        return about_adapters
    named: ColumnElement[str] = Job.request["name"].as_string()
    return about_adapters & named.in_(actor.adapters)
