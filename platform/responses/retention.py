"""Owns how long, and how much of, answers are kept."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models.responses import StoredResponse
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.responses.store import ResponseStore

SWEEP_SECONDS = 600.0
# Rows in one transaction: they may be megabytes each, and nobody else writes to SQLite meanwhile.
BATCH = 100
KIND = "responses"  # for metrics


class ResponseRetention:
    """Removes what was kept long enough, and of who keeps too much the oldest.

    Args:
        observe: told how many went.
    """

    def __init__(
        self,
        database: Database,
        store: ResponseStore,
        observe: Callable[[str, int], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._main = database.main
        self._store = store
        self._observe = observe
        self._clock = clock

    async def run(self, ending: asyncio.Event) -> None:
        """Sweep now and then, and when much was added, until `ending` is set. Workers begin at different times, so
        that one does the work."""
        log = structlog.get_logger()
        while not ending.is_set():
            await self._pause(ending)
            try:
                if not ending.is_set() and (removed := await self.sweep(ending)):
                    log.info("old responses removed", responses=removed)
            except SQLAlchemyError as error:
                log.error("old responses not removed", error=str(error))

    async def sweep(self, ending: asyncio.Event) -> int:
        """Remove it now; how many went. Safe at any time, by any number of processes."""
        removed = await self._remove_expired(ending)
        for tenant_id, excess in await self._crowded():
            removed += await self._remove_oldest(tenant_id, excess, ending)
        self._observe(KIND, removed)
        return removed

    async def _pause(self, ending: asyncio.Event) -> None:
        crowded = self._store.crowded
        waits = [asyncio.ensure_future(event.wait()) for event in (ending, crowded)]
        pause = SWEEP_SECONDS * random.uniform(0.1, 1)  # noqa: S311  # no secret
        await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        crowded.clear()

    async def _remove_expired(self, ending: asyncio.Event) -> int:
        old = (
            select(StoredResponse.id)
            .where(StoredResponse.expires_at <= self._clock())
            .order_by(StoredResponse.expires_at)
            .limit(BATCH)
            # What another worker is about to remove is not waited for.
            .with_for_update(skip_locked=True)
        )
        total = 0
        while not ending.is_set():
            async with self._main.transaction() as connection:
                gone = delete(StoredResponse).where(StoredResponse.id.in_(old))
                count = (await connection.execute(gone)).rowcount
            total += count
            if count < BATCH:
                break
        return total

    async def _crowded(self) -> list[tuple[UUID, int]]:
        """Tenants that keep too much, with how many bytes it is."""
        most, total = self._store.keeping.bytes, func.sum(StoredResponse.size)
        query = (
            select(StoredResponse.tenant_id, total)
            .group_by(StoredResponse.tenant_id)
            .having(total > most)
        )
        async with self._main.reading(EVERY_TENANT) as session:
            return [
                (tenant_id, int(size) - most) for tenant_id, size in await session.execute(query)
            ]

    async def _remove_oldest(self, tenant_id: UUID, excess: int, ending: asyncio.Event) -> int:
        oldest = (
            select(StoredResponse.id, StoredResponse.size)
            .order_by(StoredResponse.expires_at, StoredResponse.id)
            .limit(BATCH)
        )
        removed = 0
        while excess > 0 and not ending.is_set():
            async with self._main.writing(tenant_id) as session:
                gone = []
                for row in await session.execute(oldest):
                    if excess <= 0:
                        break
                    gone.append(row.id)
                    excess -= row.size
                if not gone:
                    break
                await session.execute(delete(StoredResponse).where(StoredResponse.id.in_(gone)))
            removed += len(gone)
        return removed
