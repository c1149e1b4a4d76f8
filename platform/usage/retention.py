"""Owns how long ledger rows and their sums are kept. Sums of days stay for good."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Delete, delete, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry, Tenant, UsageRollup
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering import statements
from loraplex.platform.metering.identity import first_id
from loraplex.platform.metering.rollups import HOUR, MINUTE
from loraplex.platform.metering.settlement import RESERVED

SWEEP_SECONDS = 3600.0
# Rows in one transaction: a few milliseconds for which nobody else writes to SQLite.
BATCH = 500
# Between two of them, so that requests are not kept waiting by a first sweep over millions.
PAUSE_SECONDS = 0.05
# A dashboard shows minutes of this fortnight and hours of this year.
KEEP = {MINUTE: timedelta(days=14), HOUR: timedelta(days=400)}


class Expired(Struct):
    """How many rows of each are gone."""

    requests: int
    minutes: int
    hours: int


class Retention:
    """Removes what was kept long enough.

    Args:
        ledger_days: how long ledger rows are kept whose tenant has no days of its own; None: for good.
        batch: rows in one transaction.
    """

    def __init__(
        self,
        database: Database,
        ledger_days: int | None,
        *,
        batch: int = BATCH,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = database.main
        self._ledger_days = ledger_days
        self._batch = batch
        self._clock = clock

    async def clean(self, ending: asyncio.Event) -> Expired:
        """Remove it now, or what can be removed until `ending` is set; safe at any time, by any number of processes."""
        return Expired(
            requests=await self._clean_ledger(ending),
            minutes=await self._clean_sums(MINUTE, ending),
            hours=await self._clean_sums(HOUR, ending),
        )

    async def run(self, ending: asyncio.Event) -> None:
        """Clean until `ending` is set. Workers begin at different times, so that one does the work."""
        log = structlog.get_logger()
        while True:
            pause = SWEEP_SECONDS * random.uniform(0.1, 1)  # noqa: S311  # no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause)
                return
            try:
                expired = structs.asdict(await self.clean(ending))
                if any(expired.values()):
                    log.info("old usage removed", **expired)
            except SQLAlchemyError as error:
                log.error("old usage not removed", error=str(error))

    async def _clean_ledger(self, ending: asyncio.Event) -> int:
        async with self._store.reading(EVERY_TENANT) as session:
            own = select(Tenant.id, Tenant.ledger_days)
            days = {
                row.id: row.ledger_days or self._ledger_days for row in await session.execute(own)
            }
        count = 0
        for tenant, kept in days.items():
            if kept is not None:
                count += await self._clean_rows(LedgerEntry.tenant_id == tenant, kept, ending)
        if self._ledger_days is not None:
            gone = LedgerEntry.tenant_id.not_in(select(Tenant.id))
            count += await self._clean_rows(gone, self._ledger_days, ending)
        return count

    async def _clean_rows(
        self, condition: ColumnElement[bool], days: int, ending: asyncio.Event
    ) -> int:
        """Ledger rows older than so many days, oldest first. What runs stays, however long it does."""
        before = first_id(self._clock() - timedelta(days=days))
        old = (
            select(LedgerEntry.id)
            .where(condition, LedgerEntry.id < before, LedgerEntry.state != RESERVED)
            .order_by(LedgerEntry.id)
            .limit(self._batch)
            # What another worker is about to remove is not waited for.
            .with_for_update(skip_locked=True)
        )
        return await self._repeat(delete(LedgerEntry).where(LedgerEntry.id.in_(old)), ending)

    async def _clean_sums(self, unit: str, ending: asyncio.Event) -> int:
        before = self._clock() - KEEP[unit]
        key = statements.ROLLUP.primary_key.columns
        old = (
            select(*key)
            .where(UsageRollup.unit == unit, UsageRollup.start < before)
            .order_by(UsageRollup.start)
            .limit(self._batch)
            .with_for_update(skip_locked=True)
        )
        return await self._repeat(delete(UsageRollup).where(tuple_(*key).in_(old)), ending)

    async def _repeat(self, statement: Delete, ending: asyncio.Event) -> int:
        """Run it until it finds a batch that is not full."""
        total = 0
        while not ending.is_set():
            async with self._store.transaction() as connection:
                count = (await connection.execute(statement)).rowcount
            total += count
            if count < self._batch:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        return total
