"""Owns telling engines which adapters operators have pinned."""

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import joinedload

from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.identity import identity
from loraplex.platform.catalog.names import DEFAULT_ALIAS
from loraplex.platform.catalog.schemas import names
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import AdapterFile

# An alias that moves, a version that is pushed, a pin set through another process reach an engine within this time;
# until then it has the adapter as any other. The query reads pinned adapters only.
SYNC_SECONDS = 10.0


class Pins:
    """Of a pinned adapter every version is kept that its name or an alias means now."""

    def __init__(self, database: Database, bases: BaseModels, engines: EngineDirectory) -> None:
        self._database = database
        self._bases = bases
        self._engines = engines

    async def sync(self) -> None:
        """Tell every engine what is pinned now."""
        pinned = await self._pinned()
        for base in self._bases.all():
            self._engines.pin(base.name, pinned[base.name])

    async def run(self, ending: asyncio.Event) -> None:
        """`sync` now and every `SYNC_SECONDS`, until `ending` is set."""
        log = structlog.get_logger()
        while not ending.is_set():
            try:
                await self.sync()
            except (SQLAlchemyError, OSError) as error:
                log.error("reading pinned adapters failed", error=str(error))
            pause = SYNC_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause)

    async def _pinned(self) -> dict[str, list[AdapterFile]]:
        """By base model, in the same order every time."""
        versions = (
            select(AdapterVersion)
            .join(AdapterVersion.adapter)
            .where(Adapter.pinned, AdapterVersion.state == "ready")
            .options(joinedload(AdapterVersion.blob), joinedload(AdapterVersion.adapter))
            .order_by(AdapterVersion.id)
        )
        aliases = (
            select(AdapterAlias)
            .join(Adapter, Adapter.id == AdapterAlias.adapter_id)
            .where(Adapter.pinned)
        )
        async with self._database.main.reading(EVERY_TENANT) as session:
            rows = (await session.scalars(versions)).all()
            named = (await session.scalars(aliases)).all()
        newest: dict[UUID, AdapterVersion] = {}
        for row in rows:
            known = newest.get(row.adapter_id)
            if known is None or row.n > known.n:
                newest[row.adapter_id] = row
        by_adapter: defaultdict[UUID, list[AdapterAlias]] = defaultdict(list)
        for alias in named:
            by_adapter[alias.adapter_id].append(alias)
            if alias.alias == DEFAULT_ALIAS:  # then the plain name does not mean the newest
                newest.pop(alias.adapter_id, None)
        meant = {row.id for row in newest.values()} | {
            row.id for row in rows for alias in by_adapter[row.adapter_id] if names(alias, row)
        }
        found: defaultdict[str, list[AdapterFile]] = defaultdict(list)
        for row in rows:
            base = self._bases.get(row.base_model)
            if row.id in meant and base is not None and base.fingerprint == row.base_fingerprint:
                name = identity(row.adapter.tenant_id, row.digest)
                file = AdapterFile(name, row.blob.sha256, row.blob.size, row.config)
                if file not in found[base.name]:
                    found[base.name].append(file)
        return found
