"""Owns writing down when keys were last used: noted in memory with each request, written in batches, so that no
request waits for it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import structlog
from sqlalchemy import case, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT

WRITE_SECONDS = 30.0
# Keys of one statement: each takes three parameters, and SQLite of Python 3.11 may allow no more than 32,766.
BATCH = 5_000


class KeyUse:
    """When each key was last used, as far as this process has not written it yet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[str, datetime] = {}

    def note(self, key_id: str, moment: datetime) -> None:
        """This key was let in at that moment."""
        self._noted[key_id] = moment

    async def run(self, ending: asyncio.Event) -> None:
        """Write every `WRITE_SECONDS`, and what is left when `ending` is set."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), WRITE_SECONDS)
            try:
                await self.write()
            except SQLAlchemyError as error:
                structlog.get_logger().error("last use of keys not written", error=str(error))
            if ending.is_set():
                return

    async def write(self) -> None:
        """Write what was noted, with one statement; what cannot be written is kept for the next time."""
        while self._noted:
            batch = dict(sorted(self._noted.items())[:BATCH])
            for key_id in batch:
                del self._noted[key_id]
            try:
                await self._store(batch)
            except BaseException:
                # Newer notes win.
                self._noted = {**batch, **self._noted}
                raise

    async def _store(self, batch: Mapping[str, datetime]) -> None:
        moment = case(batch, value=ApiKey.id)
        # Locked in one order: two workers that write the same keys would otherwise wait for each other.
        locked = select(ApiKey.id).where(ApiKey.id.in_(batch)).order_by(ApiKey.id).with_for_update()
        statement = (
            update(ApiKey)
            .where(
                ApiKey.id.in_(locked.scalar_subquery()),
                # Another worker may have seen the key later.
                or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < moment),
            )
            .values(last_used_at=moment)
            .execution_options(synchronize_session=False)
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            await session.execute(statement)
