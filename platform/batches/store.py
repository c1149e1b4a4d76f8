"""Owns the rows of batches that run: each change is made by whoever holds the batch's job, or not at all."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.batches.endpoints import Tokens
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Batch, BatchResult, Job
from loraplex.platform.jobs.leases import Claim, JobLostError, JobState

# Read together; each is an answer, usually of a few kilobytes. One with the probabilities of many choices may be
# hundreds of megabytes, which a worker has room for once.
RESULTS_AT_ONCE = 64
BYTES_AT_ONCE = 16 * 1024**2


class Result(NamedTuple):
    """What came of a line: a line of the output file, or of the file of errors."""

    line: int
    ok: bool
    body: bytes
    tokens: Tokens = Tokens(0, 0, 0)


class BatchStore:
    """One batch, as the holder of its job sees it."""

    def __init__(self, database: Database, claim: Claim, batch_id: UUID) -> None:
        self._database = database
        self._claim = claim
        self._batch_id = batch_id

    async def load(self) -> Batch:
        """The batch as it stands.

        Raises:
            JobLostError: it is gone, with its tenant.
        """
        async with self._database.main.reading(self._claim.tenant_id) as session:
            batch = await session.scalar(select(Batch).where(Batch.id == self._batch_id))
        if batch is None:
            raise JobLostError
        return batch

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[tuple[AsyncSession, Batch]]:
        """A transaction that holds the batch's row, committed at the end of the block.

        Raises:
            JobLostError: the job is somebody else's now.
        """
        claim = self._claim
        held = select(Job.id).where(
            Job.id == claim.id, Job.attempts == claim.attempt, Job.state == JobState.RUNNING
        )
        query = select(Batch).where(Batch.id == self._batch_id).with_for_update()
        async with self._database.main.writing(claim.tenant_id) as session:
            batch = await session.scalar(query)
            if batch is None or await session.scalar(held) is None:
                raise JobLostError
            yield session, batch

    async def begin(self, total: int, model: str | None) -> None:
        """The input is in order: its lines are run from now on, unless the batch was cancelled meanwhile."""
        async with self.changing() as (_, batch):
            batch.total, batch.model = total, model
            if batch.status == "validating":
                batch.status, batch.in_progress_at = "in_progress", utc_now()

    async def finalize(self) -> bool:
        """Every line is through: from now on the batch cannot be cancelled. False if it was."""
        async with self.changing() as (_, batch):
            if batch.status == "in_progress":
                batch.status, batch.finalizing_at = "finalizing", utc_now()
            return batch.status == "finalizing"

    async def recorded(self) -> set[int]:
        """Lines that are through."""
        query = select(BatchResult.line).where(BatchResult.batch_id == self._batch_id)
        async with self._database.main.reading(self._claim.tenant_id) as session:
            return set(await session.scalars(query))

    async def record(self, results: Sequence[Result]) -> None:
        """Keep what came of lines: they are not run again. Of a line that is through already, what came first stays:
        who held the job before may have kept it after this one had begun."""
        claim = self._claim
        lines = [result.line for result in results]
        async with self.changing() as (session, batch):
            own = BatchResult.batch_id == self._batch_id
            through = select(BatchResult.line).where(own, BatchResult.line.in_(lines))
            known = set(await session.scalars(through))
            results = [result for result in results if result.line not in known]
            if not results:
                return
            rows = [
                {
                    "batch_id": self._batch_id,
                    "line": result.line,
                    "tenant_id": claim.tenant_id,
                    "ok": result.ok,
                    "body": result.body,
                }
                for result in results
            ]
            await session.execute(insert(BatchResult), rows)
            done = sum(result.ok for result in results)
            batch.completed += done
            batch.failed += len(results) - done
            batch.input_tokens += sum(result.tokens.input for result in results)
            batch.cached_tokens += sum(result.tokens.cached for result in results)
            batch.output_tokens += sum(result.tokens.output for result in results)

    async def bodies(self, *, ok: bool) -> AsyncIterator[bytes]:
        """The lines of one result file, in the order of the input."""
        own = (BatchResult.batch_id == self._batch_id, BatchResult.ok == ok)
        sizes = select(BatchResult.line, func.length(BatchResult.body)).where(*own)
        bodies = select(BatchResult.line, BatchResult.body).where(*own).order_by(BatchResult.line)
        last = 0
        while True:
            ahead = sizes.where(BatchResult.line > last).order_by(BatchResult.line)
            async with self._database.main.reading(self._claim.tenant_id) as session:
                next_ = (await session.execute(ahead.limit(RESULTS_AT_ONCE))).all()
                if not next_:
                    return
                upto = _taken([(line, size) for line, size in next_])
                some = bodies.where(BatchResult.line > last, BatchResult.line <= upto)
                rows = (await session.execute(some)).all()
            for _, body in rows:
                yield body
            last = upto


def _taken(sizes: Sequence[tuple[int, int]]) -> int:
    """The last line of those that are read together: at least one, and no more than `BYTES_AT_ONCE`."""
    (last, total), *others = sizes
    for line, size in others:
        total += size
        if total > BYTES_AT_ONCE:
            break
        last = line
    return last


async def forget_results(session: AsyncSession, batch_id: UUID) -> None:
    """Within the transaction that ends a batch: they are in its files, or nobody's."""
    await session.execute(delete(BatchResult).where(BatchResult.batch_id == batch_id))
