"""Owns the life of a batch in the hands of a worker: judged, run, and ended with its files. Each step can be done again
by another worker, from what is recorded."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from msgspec import Struct, convert, to_builtins
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.batches.endpoints import LineRunner
from loraplex.platform.batches.execution import Ending, Execution
from loraplex.platform.batches.lines import read_judged
from loraplex.platform.batches.results import Stored, never_run, store_lines
from loraplex.platform.batches.rights import Rights, RightsLostError
from loraplex.platform.batches.schemas import BatchFault, BatchFaults
from loraplex.platform.batches.store import BatchStore, forget_results
from loraplex.platform.batches.validation import validate
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Batch
from loraplex.platform.errors import NotFoundError
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.ids import BATCH as BATCH_ID
from loraplex.platform.files.ids import shown
from loraplex.platform.files.schemas import BATCH_OUTPUT
from loraplex.platform.files.service import Files, Wanted
from loraplex.platform.jobs.leases import Claim, succeed
from loraplex.platform.jobs.runner import Progress
from loraplex.platform.webhooks.events import emit

AT_ONCE = 8  # batches in one worker; a quiet one takes a few megabytes
# A batch is about a day of work, in which a server may be restarted often; what was done is never done again.
ATTEMPTS = 100
_UNRUN = {
    "expired": ("batch_expired", "The batch did not get to this request within its 24 hours."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was run."),
    "failed": ("batch_failed", "The batch could not go on to this request."),
}
_EVENTS = {
    "completed": "batch.completed",
    "failed": "batch.failed",
    "expired": "batch.expired",
    "cancelled": "batch.cancelled",
}


class BatchOrder(Struct):
    """What the job keeps."""

    batch: UUID


class BatchWork:
    """The kind of jobs that run batches; implements `JobKind`."""

    def __init__(
        self,
        database: Database,
        files: Files,
        contents: Contents,
        runner: LineRunner,
        spool: Path,
    ) -> None:
        self._database = database
        self._files = files
        self._contents = contents
        self._runner = runner
        self._spool = spool

    def forget(self, job_id: UUID) -> None:
        """See `JobKind.forget`: nothing is kept."""

    async def failed(self, session: AsyncSession, claim: Claim, error: str) -> None:
        """See `JobKind.failed`."""
        batch_id = convert(claim.request, BatchOrder).batch
        batch = await session.scalar(select(Batch).where(Batch.id == batch_id).with_for_update())
        if batch is not None:
            await _end(session, batch, "failed", [BatchFault("server_error", error)])
            await forget_results(session, batch_id)

    async def run(self, claim: Claim, progress: Progress) -> None:
        """See `JobKind.run`."""
        store = BatchStore(self._database, claim, convert(claim.request, BatchOrder).batch)
        batch = await store.load()
        if batch.status == "validating":
            if faults := await self._validate(store, batch):
                await self._finish(claim, store, "failed", faults)
                return
            batch = await store.load()
        status: str = Ending.CANCELLED
        faults = []
        if batch.status != "cancelling":
            source = self._contents.read(batch.tenant_id, batch.input_file_id)
            execution = Execution(store, self._runner, Rights(self._database, batch), progress)
            try:
                status = await execution.run(batch, source)
            except RightsLostError as error:
                status, faults = "failed", [BatchFault("invalid_api_key", str(error))]
        if status == Ending.COMPLETED:
            status, faults = await self._completed(store, batch)
        await self._finish(claim, store, status, faults)

    async def _validate(self, store: BatchStore, batch: Batch) -> list[BatchFault]:
        """What is wrong with the input; if nothing is, the batch has begun."""
        try:
            file = await self._files.get(batch.tenant_id, batch.input_file_id)
        except NotFoundError:
            return [_gone()]
        found = await validate(self._files.read(file), batch.endpoint)
        if not found.faults:
            await store.begin(found.total, found.model)
        return found.faults

    async def _completed(self, store: BatchStore, batch: Batch) -> tuple[str, list[BatchFault]]:
        """Every line that there was is through: whether they are all."""
        if len(await store.recorded()) < batch.total:
            return "failed", [_gone()]
        return (Ending.COMPLETED if await store.finalize() else Ending.CANCELLED), []

    async def _finish(
        self, claim: Claim, store: BatchStore, status: str, faults: list[BatchFault]
    ) -> None:
        """Write the files; then they, the end of the batch and of its job become visible together."""
        batch = await store.load()
        tenant = claim.tenant_id
        contents, spool = self._contents, self._spool
        output: Stored | None = None
        errors: Stored | None = None
        try:
            output = await store_lines(contents, tenant, spool, store.bodies(ok=True))
            lines = self._errors(store, batch, status)
            errors = await store_lines(contents, tenant, spool, lines)
            async with store.changing() as (session, batch):
                batch.output_file_id = await self._keep(session, batch, "output", output)
                batch.error_file_id = await self._keep(session, batch, "error", errors)
                await forget_results(session, batch.id)
                await _end(session, batch, status, faults)
                await succeed(session, claim, {"status": status})
        except BaseException:
            for stored in (output, errors):
                if stored is not None:
                    await contents.discard(stored.blob_id)
            raise

    async def _errors(self, store: BatchStore, batch: Batch, status: str) -> AsyncIterator[bytes]:
        """The lines of the file of errors: requests that were refused, then those that had no turn."""
        async for body in store.bodies(ok=False):
            yield body
        if not batch.total or status not in _UNRUN:
            return
        done, reason = await store.recorded(), _UNRUN[status]
        source = self._contents.read(batch.tenant_id, batch.input_file_id)
        async for number, request in read_judged(source, batch.endpoint):
            if number not in done:
                yield never_run(request.custom_id, *reason)

    async def _keep(
        self, session: AsyncSession, batch: Batch, what: str, stored: Stored | None
    ) -> UUID | None:
        if stored is None:
            return None
        name = f"{shown(BATCH_ID, batch.id)}_{what}.jsonl"
        wanted = Wanted(batch.tenant_id, batch.key_id, name, BATCH_OUTPUT, batch.lifetime)
        return (await self._files.adopt(session, wanted, stored.size, stored.blob_id)).id


async def _end(session: AsyncSession, batch: Batch, status: str, faults: list[BatchFault]) -> None:
    """Within a transaction: the last state of a batch, and telling of it."""
    batch.status = status
    setattr(batch, f"{status}_at", utc_now())
    if faults:
        batch.errors = convert(to_builtins(BatchFaults(faults)), dict[str, object])
    name = shown(BATCH_ID, batch.id)
    await emit(session, batch.tenant_id, _EVENTS[status], {"id": name})


def _gone() -> BatchFault:
    return BatchFault("file_not_found", "The input file was deleted or has expired.")
