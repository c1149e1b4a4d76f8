"""Jobs survive who runs them: each is run by one at a time, and taken up again when that one died."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Job, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError
from loraplex.platform.jobs.leases import (
    MAX_ATTEMPTS,
    MAX_OPEN,
    RUNNING_PER_TENANT,
    Claim,
    JobLostError,
    JobQueue,
    enqueue,
    succeed,
)
from loraplex.platform.jobs.runner import JobRunner, Progress


@pytest.fixture
async def tenant(database: Database) -> UUID:
    row = Tenant(name="acme")
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(row)
    return row.id


async def add(database: Database, tenant: UUID, *, keep: bool = False) -> UUID:
    job = Job(tenant_id=tenant, kind="test", request={"name": "a"}, created_by="x")
    async with database.main.writing(tenant) as session:
        await enqueue(session, job, keep=keep)
    return job.id


async def read(database: Database, job: UUID) -> Job:
    async with database.main.reading(EVERY_TENANT) as session:
        return await session.get_one(Job, job)


async def expire(database: Database, job: UUID) -> None:
    """As if whoever holds it had died a while ago."""
    past = utc_now() - timedelta(seconds=1)
    async with database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(Job).where(Job.id == job).values(locked_until=past))


async def test_each_job_is_taken_once(database: Database, tenant: UUID) -> None:
    jobs = {await add(database, tenant) for _ in range(RUNNING_PER_TENANT)}
    queue = JobQueue(database)
    taken = await asyncio.gather(*(queue.take() for _ in range(6)))
    claims = [claim for claim in taken if claim is not None]
    assert {claim.id for claim in claims} <= jobs
    assert len({claim.id for claim in claims}) == len(claims) >= 1


async def test_one_tenant_does_not_hold_up_another(database: Database, tenant: UUID) -> None:
    other = Tenant(name="globex")
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(other)
    for _ in range(RUNNING_PER_TENANT + 3):
        await add(database, tenant)
    last = await add(database, other.id)
    queue = JobQueue(database)
    taken = [await queue.take() for _ in range(RUNNING_PER_TENANT + 2)]
    assert [claim.tenant_id if claim else None for claim in taken] == [
        *[tenant] * RUNNING_PER_TENANT,
        other.id,
        None,
    ]
    assert taken[-2] is not None
    assert taken[-2].id == last


async def test_a_dead_holders_job_is_taken_up_and_the_holder_shut_out(
    database: Database, tenant: UUID
) -> None:
    job = await add(database, tenant)
    queue = JobQueue(database)
    first = await queue.take()
    assert first is not None
    assert await queue.take() is None
    assert await queue.renew(first, {"done": 1, "total": 2})
    await expire(database, job)
    second = await queue.take()
    assert second is not None
    assert (second.id, second.attempt) == (job, 2)
    # The first one was only slow. Nothing it still does counts.
    assert not await queue.renew(first, {"done": 2, "total": 2})
    await queue.release(first)
    with pytest.raises(JobLostError):
        async with database.main.writing(tenant) as session:
            await succeed(session, first, {"made by": "the first"})
    async with database.main.writing(tenant) as session:
        await succeed(session, second, {"made by": "the second"})
    row = await read(database, job)
    assert (row.state, row.result) == ("succeeded", {"made by": "the second"})
    assert await queue.take() is None


async def test_open_jobs_are_limited(database: Database, tenant: UUID) -> None:
    for _ in range(MAX_OPEN):
        await add(database, tenant)
    with pytest.raises(ConflictError):
        await add(database, tenant)


async def test_jobs_of_long_ago_are_removed(database: Database, tenant: UUID) -> None:
    jobs = [await add(database, tenant) for _ in range(2)]
    async with database.main.writing(EVERY_TENANT) as session:
        long_ago = utc_now() - timedelta(days=31)
        await session.execute(update(Job).where(Job.id == jobs[0]).values(ended_at=long_ago))
    assert await JobQueue(database).clean() == 1
    assert (await read(database, jobs[1])).state == "queued"


class Kind:
    """Jobs that do as told."""

    def __init__(self, queue_database: Database) -> None:
        self.database = queue_database
        self.began = asyncio.Event()
        self.error: Exception | None = None
        self.waits = False
        self.forgotten: list[UUID] = []
        self.failures: list[str] = []

    async def run(self, claim: Claim, progress: Progress) -> None:
        self.began.set()
        if self.error is not None:
            raise self.error
        while self.waits:
            progress.advance(1)
            await asyncio.sleep(0.01)
        async with self.database.main.writing(claim.tenant_id) as session:
            await succeed(session, claim, {"ok": True})

    async def failed(self, session: AsyncSession, claim: Claim, error: str) -> None:
        self.failures.append(error)

    def forget(self, job_id: UUID) -> None:
        self.forgotten.append(job_id)


class Running:
    """A runner at work within the block."""

    def __init__(self, database: Database, kind: Kind) -> None:
        self.ended: list[tuple[str, str]] = []
        self.runner = JobRunner(
            database, JobQueue(database), {"test": kind}, lambda *end: self.ended.append(end)
        )
        self._ending = asyncio.Event()

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.runner.run(self._ending))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._ending.set()
        await self._task


async def until_ended(database: Database, job: UUID) -> Job:
    while (row := await read(database, job)).ended_at is None:  # noqa: ASYNC110  # in the database
        await asyncio.sleep(0.01)
    return row


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, None),
        (NotFoundError("There is no such thing."), "There is no such thing."),
        (ValueError("a secret of ours"), "our side"),
    ],
)
async def test_a_job_ends_once_with_its_reason(
    database: Database, tenant: UUID, error: Exception | None, says: str | None
) -> None:
    kind = Kind(database)
    kind.error = error
    async with Running(database, kind) as running:
        job = await add(database, tenant)
        running.runner.wake()
        row = await until_ended(database, job)
    assert row.state == ("succeeded" if error is None else "failed")
    assert (row.error is None) if says is None else (says in str(row.error))
    assert "secret" not in str(row.error)
    assert running.ended == [("test", row.state)]
    assert kind.forgotten == [job]
    assert len(kind.failures) == (0 if error is None else 1)


async def test_a_job_kept_for_this_process_is_run_or_forgotten(
    database: Database, tenant: UUID
) -> None:
    kind = Kind(database)
    async with Running(database, kind) as running:
        job = await add(database, tenant, keep=True)
        # Nobody else takes it, though it waits.
        assert await JobQueue(database).take() is None
        cancelled = await add(database, tenant, keep=True)
        async with database.main.writing(EVERY_TENANT) as session:
            await session.execute(update(Job).where(Job.id == cancelled).values(state="failed"))
        running.runner.keep(cancelled)
        running.runner.keep(job)
        assert (await until_ended(database, job)).state == "succeeded"
        while len(kind.forgotten) < 2:  # by the runner
            running.runner.wake()
            await asyncio.sleep(0.01)
    assert set(kind.forgotten) == {job, cancelled}


async def test_a_worker_that_ends_gives_its_jobs_back(database: Database, tenant: UUID) -> None:
    kind = Kind(database)
    kind.waits = True
    job = await add(database, tenant)
    async with Running(database, kind):
        await kind.began.wait()
    row = await read(database, job)
    assert (row.state, row.attempts, row.locked_until) == ("queued", 0, None)
    kind.waits = False
    async with Running(database, kind):
        assert (await until_ended(database, job)).state == "succeeded"


async def test_a_job_that_always_takes_its_worker_along_is_given_up(
    database: Database, tenant: UUID
) -> None:
    job = await add(database, tenant)
    async with database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(Job).where(Job.id == job).values(attempts=MAX_ATTEMPTS))
    async with Running(database, Kind(database)):
        row = await until_ended(database, job)
    assert "try again later" in str(row.error)
