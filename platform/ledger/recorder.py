"""Owns writing the ledger: rows are collected while requests end, and written in batches off their path."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from loraplex.platform.catalog.resolve import ResolvedVersion
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.engines.outcome import Outcome, Settle

# A row can be read this long after its request ended, and this much is lost when the process is killed.
FLUSH_SECONDS = 0.5
# Rows of one INSERT; more wait for the next, so that a writer never holds SQLite's lock for long.
BATCH = 500
RETRY_SECONDS = 2.0
# About 100 MB of rows while the database is away; then the oldest go, which is logged.
MAX_PENDING = 100_000
# The last rows are written within this time at the end of the process, or not at all: the supervisor waits 5 s longer
# than requests may take.
CLOSE_SECONDS = 4.0

Row = dict[str, object]


class Recorder:
    """Rows on their way to the database. Everything but `run` and `close` returns at once."""

    def __init__(self, database: Database, observe: Callable[[str, Outcome], None]) -> None:
        """`observe` is told of every outcome by base model, for metrics."""
        self._database = database
        self._observe = observe
        self._pending: list[Row] = []
        self._wake = asyncio.Event()
        self._closing = False

    def account(
        self,
        tenant_id: UUID,
        key_id: str,
        answer_id: str,
        base_model: str,
        version: ResolvedVersion | None,
    ) -> Settle:
        """Where the outcomes of one request's answers go."""

        def settle(choice: int, outcome: Outcome) -> None:
            self._observe(base_model, outcome)
            self._add(
                {
                    "tenant_id": tenant_id,
                    "key_id": key_id,
                    "answer_id": answer_id,
                    "base_model": base_model,
                    "adapter": None if version is None else version.adapter,
                    "version": None if version is None else version.n,
                    "version_id": None if version is None else version.id,
                    "digest": None if version is None else version.digest,
                    **_measured(outcome),
                }
            )

        return settle

    async def run(self) -> None:
        """Write what comes, until `close`; a database that is away is asked again."""
        while not (self._closing and not self._pending):
            await self._wake.wait()
            if not self._closing:
                await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            while self._pending:
                try:
                    await self._write(self._pending[:BATCH])
                except Exception as error:
                    # Whatever a driver raises, later rows must still be written.
                    structlog.get_logger().error(
                        "writing the ledger failed", error=str(error), rows=len(self._pending)
                    )
                    self._limit()
                    await asyncio.sleep(RETRY_SECONDS)

    async def close(self, running: asyncio.Task[None]) -> None:
        """Write what is left and end `running`, the task of `run`."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({running}, timeout=CLOSE_SECONDS)
        if self._pending:
            structlog.get_logger().error("ledger rows were lost", rows=len(self._pending))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def _add(self, row: Row) -> None:
        self._pending.append(row)
        self._wake.set()

    async def _write(self, rows: list[Row]) -> None:
        async with self._database.main.transaction() as connection:
            await connection.execute(insert(LedgerEntry), rows)
        del self._pending[: len(rows)]

    def _limit(self) -> None:
        if (lost := len(self._pending) - MAX_PENDING) > 0:
            del self._pending[:lost]
            structlog.get_logger().error("ledger rows were lost", rows=lost)


def _measured(outcome: Outcome) -> Row:
    timings = outcome.timings
    row: Row = {
        # By the time of the end: rows are only ever added in front of those somebody pages through.
        "id": uuid7(),
        "created_at": utc_now() - timedelta(seconds=outcome.seconds),
        "finish_reason": outcome.finish_reason,
        "prompt_tokens": outcome.prompt_tokens,
        "cached_tokens": outcome.cached_tokens,
        "output_tokens": outcome.output_tokens,
        "total_ms": _ms(outcome.seconds),
        "first_token_ms": _ms(outcome.first_token),
        "preemptions": 0 if timings is None else timings.preemptions,
        "evicted_by": outcome.evicted_by,
    }
    for part in ("queue", "load", "prefill", "decode"):
        row[f"{part}_ms"] = None if timings is None else _ms(getattr(timings, part))
    return row


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
