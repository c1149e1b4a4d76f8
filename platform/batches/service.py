"""Owns asking for batches: what is asked is checked, written down as a job and left to a worker."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, select, true

from loraplex.platform.auth.principal import Principal
from loraplex.platform.batches.schemas import NewBatch
from loraplex.platform.batches.validation import MAX_INPUT
from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Batch, Job
from loraplex.platform.errors import BadRequestError, ConflictError
from loraplex.platform.files.ids import BATCH as BATCH_ID
from loraplex.platform.files.ids import FILE, absent, read, shown
from loraplex.platform.files.owner import maker_of
from loraplex.platform.files.service import Files
from loraplex.platform.jobs.leases import BATCH, enqueue
from loraplex.platform.jobs.runner import JobRunner
from loraplex.platform.tenants.living import of_living_tenant

WINDOW = timedelta(hours=24)


class Batches:
    """Batches of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, files: Files, runner: JobRunner) -> None:
        self._database = database
        self._files = files
        self._runner = runner

    async def create(self, actor: Principal, tenant_id: UUID, new: NewBatch) -> Batch:
        """Begin a batch. Its lines are looked at later: what is wrong with them the batch tells.

        Raises:
            NotFoundError: the tenant has no such file.
            BadRequestError: it is not for batches, or too large.
            ConflictError: the tenant has too many batches and other jobs that have not ended.
            PayloadTooLargeError: it stores all that it may.
        """
        param = "input_file_id"
        file_id, maker = read(FILE, new.input_file_id, param), maker_of(actor)
        file = await self._files.get(tenant_id, file_id, param, maker=maker)
        if file.purpose != "batch":
            raise BadRequestError(
                f"{param}: the purpose of the file is {file.purpose!r}; send it with 'batch'.",
                param=param,
                code="invalid_value",
            )
        if file.size > MAX_INPUT:
            raise BadRequestError(
                f"{param}: the file has {file.size} bytes, and {MAX_INPUT} are allowed; split it.",
                param=param,
                code="file_too_large",
            )
        if any("\0" in key + value for key, value in (new.metadata or {}).items()):
            raise BadRequestError("metadata: remove the NUL character.", param="metadata")
        now, after = utc_now(), new.output_expires_after
        batch = Batch(
            tenant_id=tenant_id,
            created_at=now,
            key_id=actor.actor_id,
            input_file_id=file.id,
            endpoint=new.endpoint,
            details=None if new.metadata is None else dict(new.metadata),
            lifetime=None if after is None else after.seconds,
            expires_at=now + WINDOW,
        )
        with of_living_tenant():
            async with self._database.main.writing(tenant_id) as session:
                # What comes of it is kept in any case; only so much can one go over.
                await check_quota(session, tenant_id, 1)
                session.add(batch)
                await session.flush()
                job = Job(
                    tenant_id=tenant_id,
                    kind=BATCH,
                    request={"batch": str(batch.id)},
                    created_by=actor.actor_id,
                )
                await enqueue(session, job)
        self._runner.wake()
        return batch

    async def get(self, tenant_id: UUID, batch_id: UUID, maker: str | None = None) -> Batch:
        """One batch; `maker` is the key it must be of, None for any of the tenant.

        Raises:
            NotFoundError: there is no such batch.
        """
        query = select(Batch).where(Batch.id == batch_id, _made_by(maker))
        async with self._database.main.reading(tenant_id) as session:
            batch = await session.scalar(query)
        if batch is None:
            raise absent(BATCH_ID, shown(BATCH_ID, batch_id))
        return batch

    async def list(
        self, tenant_id: UUID, after: UUID | None, limit: int, maker: str | None = None
    ) -> Sequence[Batch]:
        """Batches, newest first, those that follow `after`; of one key, if there is a `maker`."""
        query = select(Batch).where(_made_by(maker)).order_by(Batch.id.desc()).limit(limit)
        if after is not None:
            query = query.where(Batch.id < after)
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def cancel(self, tenant_id: UUID, batch_id: UUID, maker: str | None = None) -> Batch:
        """Run no more of a batch; what is done is kept. Who runs it stops within seconds. See `get`.

        Raises:
            NotFoundError: there is no such batch.
            ConflictError: it has ended, or is about to.
        """
        query = select(Batch).where(Batch.id == batch_id, _made_by(maker)).with_for_update()
        async with self._database.main.writing(tenant_id) as session:
            batch = await session.scalar(query)
            if batch is None:
                raise absent(BATCH_ID, shown(BATCH_ID, batch_id))
            if batch.status in ("validating", "in_progress"):
                batch.status, batch.cancelling_at = "cancelling", utc_now()
            elif batch.status != "cancelling":
                raise ConflictError(
                    f"The batch is {batch.status}; it cannot be cancelled any more.",
                    code="batch_ended",
                )
        self._runner.wake()
        return batch


def _made_by(maker: str | None) -> ColumnElement[bool]:
    return true() if maker is None else Batch.key_id == maker
