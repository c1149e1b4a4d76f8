"""Owns the routes of jobs."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.jobs.schemas import JobList, JobOut
from loraplex.platform.jobs.service import JobService
from loraplex.platform.nul import refuse_nul

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


class JobController(Controller):
    """Work in the background, for example imports."""

    path = "/api/v1/jobs"
    tags = ("jobs",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @get(operation_id="ListJobs")
    async def list_jobs(
        self,
        owner: NamedDependency[UUID],
        principal: NamedDependency[Principal],
        jobs: NamedDependency[JobService],
        before: FromQuery[UUID | None] = None,
        limit: Limit = 100,
    ) -> JobList:
        """Jobs, newest first."""
        rows = await jobs.list(principal, owner, before, limit)
        following = str(rows[-1].id) if len(rows) == limit else None
        return JobList([JobOut.of(row) for row in rows], following)

    @get("/{job_id:uuid}", operation_id="GetJob")
    async def get_job(
        self,
        owner: NamedDependency[UUID],
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        jobs: NamedDependency[JobService],
    ) -> JobOut:
        """One job: how far it is, or what came of it."""
        return JobOut.of(await jobs.get(principal, owner, job_id))

    @delete("/{job_id:uuid}", operation_id="CancelJob")
    async def cancel_job(
        self,
        owner: NamedDependency[UUID],
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        jobs: NamedDependency[JobService],
    ) -> None:
        """End a job that has not ended; what it fetched is gone."""
        await jobs.cancel(principal, owner, job_id)
