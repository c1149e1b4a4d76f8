"""Owns reading sums of usage."""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.rollups import Sums
from loraplex.platform.residency.names import BATCH
from loraplex.platform.usage.sums import Line, Place, Wanted

EXPORT_PAGE = 1000  # lines read in one transaction


class Usage:
    """Sums of one tenant, or of all for operators. Pages by key, so that none is missed or told twice while new
    buckets come."""

    def __init__(self, database: Database) -> None:
        self._store = database.main

    async def lines(self, wanted: Wanted, limit: int | None = None) -> list[Line]:
        """The first `limit` lines, or all."""
        groups = len(wanted.by)
        async with self._store.reading(wanted.whose) as session:
            rows = (await session.execute(wanted.query().limit(limit))).all()
        # PostgreSQL adds 64-bit integers up to decimals.
        return [
            Line(Place(row[0], tuple(row[1 : 1 + groups])), Sums(*map(int, row[1 + groups :])))
            for row in rows
        ]

    async def pages(self, wanted: Wanted) -> AsyncGenerator[list[Line]]:
        """All lines, in pages, each read in a transaction of its own: a slow reader holds none open."""
        while True:
            page = await self.lines(wanted, EXPORT_PAGE)
            yield page
            if len(page) < EXPORT_PAGE:
                return
            wanted = replace(wanted, after=page[-1].place)

    async def names(self, tenants: Iterable[UUID]) -> dict[UUID, str]:
        """Names of tenants by id; of one that is gone its id."""
        ids = sorted(set(tenants))
        known = {id_: str(id_) for id_ in ids}
        async with self._store.reading(EVERY_TENANT) as session:
            for begin in range(0, len(ids), BATCH):
                query = select(Tenant.id, Tenant.name).where(
                    Tenant.id.in_(ids[begin : begin + BATCH])
                )
                known |= {row.id: row.name for row in await session.execute(query)}
        return known

    async def ids(self, names: Iterable[str]) -> frozenset[UUID]:
        """Ids of tenants by name; of those there are."""
        known: set[UUID] = set()
        wanted = sorted(set(names))
        async with self._store.reading(EVERY_TENANT) as session:
            for begin in range(0, len(wanted), BATCH):
                query = select(Tenant.id).where(Tenant.name.in_(wanted[begin : begin + BATCH]))
                known |= set(await session.scalars(query))
        return frozenset(known)
