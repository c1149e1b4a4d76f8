"""Owns the rows of batches that run: each change is made by whoever holds the batch's job, or not at all."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.batches.endpoints import Tokens
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Batch, BatchResult, Job
from loraplex.platform.jobs.leases import Claim, JobLostError, JobState

RESULTS_AT_ONCE = 64  # read together; each is an answer, usually of a few kilobytes


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
        """Keep what came of lines: they are not run again."""
        claim = self._claim
        async with self.changing() as (session, batch):
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
        last = 0
        while True:
            query = (
                select(BatchResult.line, BatchResult.body)
                .where(
                    BatchResult.batch_id == self._batch_id,
                    BatchResult.ok == ok,
                    BatchResult.line > last,
                )
                .order_by(BatchResult.line)
                .limit(RESULTS_AT_ONCE)
            )
            async with self._database.main.reading(self._claim.tenant_id) as session:
                rows = (await session.execute(query)).all()
            if not rows:
                return
            for line, body in rows:
                yield body
                last = line

    async def forget_results(self, session: AsyncSession) -> None:
        """Within the transaction that ends the batch: they are in its files now."""
        own = BatchResult.batch_id == self._batch_id
        await session.execute(delete(BatchResult).where(own))
