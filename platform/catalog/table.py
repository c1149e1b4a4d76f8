"""Owns finding adapters for a table of many: filters, pages by name, and on request what stands beside a name: the
newest version, where engines hold it, and how much it was used."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.catalog.rows import find_aliases
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import (
    Adapter,
    AdapterAlias,
    AdapterVersion,
    Blob,
    LedgerEntry,
    UsageRollup,
)
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import Tier
from loraplex.platform.errors import PermissionDeniedError
from loraplex.platform.metering.rollups import HOUR
from loraplex.platform.residency.names import tenant_of

TRAFFIC_HOURS = 24
# Names looked through at once where only engines know which of them match: 10,000 adapters take five queries.
NAMES = 2000
# What SQLite and PostgreSQL take in one IN list without complaint, with room to spare.
DIGESTS = 500
_FASTEST_FIRST = (Tier.DEVICE, Tier.LOADING, Tier.HOST, Tier.DISK, Tier.DATABASE)


class Include(StrEnum):
    """What is told of each adapter beyond its name and aliases."""

    NEWEST = "newest"
    RESIDENCY = "residency"
    TRAFFIC = "traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which adapters: `search` is part of their name, `base` of the base model of some version, `alias` of some alias,
    all in whatever case; `tier` is the fastest place any version is in."""

    search: str = ""
    base: str = ""
    alias: str = ""
    tier: Tier | None = None


class Newest(NamedTuple):
    """The newest version an adapter has. `size` in bytes."""

    version: int
    base: str
    rank: int
    size: int
    created_at: datetime


class Traffic(NamedTuple):
    """Requests in each of the last 24 hours of the clock, the present one last; and when the last one came, None if
    the ledger has none any more."""

    hourly: list[int]
    last_used_at: datetime | None


@dataclass(slots=True)
class Row:
    """An adapter as the table has it; what was not asked for is None."""

    adapter: Adapter
    aliases: list[AdapterAlias] = field(default_factory=list)
    newest: Newest | None = None
    tier: Tier | None = None
    traffic: Traffic | None = None


class AdapterTable:
    """The adapters of one tenant, a page at a time. A page costs a handful of queries however many rows it has."""

    def __init__(self, database: Database, engines: EngineDirectory) -> None:
        self._database = database
        self._engines = engines

    async def page(
        self,
        viewer: Principal,
        tenant_id: UUID,
        wanted: Wanted,
        after: str,
        limit: int,
        include: Collection[Include] = (),
    ) -> list[Row]:
        """At most `limit` adapters by name, those after `after`.

        Raises:
            PermissionDeniedError: the traffic is asked for by somebody who may not see usage.
        """
        if Include.TRAFFIC in include and not (viewer.is_operator or Scope.USAGE in viewer.scopes):
            raise PermissionDeniedError(
                "include: traffic needs the scope 'usage'; ask for the other parts alone."
            )
        tiers: Mapping[str, Tier] = {}
        if wanted.tier is not None or Include.RESIDENCY in include:
            tiers = await self._tiers(tenant_id)
        conditions = _conditions(viewer, tenant_id, wanted)
        async with self._database.main.reading(tenant_id) as session:
            if wanted.tier is not None:
                places = await _places(session, tenant_id, tiers)
                names = await _names_in(session, conditions, wanted.tier, places, after, limit)
                conditions = [Adapter.tenant_id == tenant_id, Adapter.name.in_(names)]
            query = select(Adapter).where(*conditions, Adapter.name > after)
            found = await session.scalars(query.order_by(Adapter.name).limit(limit))
            rows = {adapter.id: Row(adapter) for adapter in found}
            if not rows:
                return []
            for alias in await find_aliases(session, list(rows)):
                rows[alias.adapter_id].aliases.append(alias)
            if Include.NEWEST in include:
                await _add_newest(session, rows)
            if Include.RESIDENCY in include:
                await _add_tiers(session, rows, tiers)
            if Include.TRAFFIC in include:
                await _add_traffic(session, tenant_id, rows)
        return list(rows.values())

    async def _tiers(self, tenant_id: UUID) -> dict[str, Tier]:
        """The fastest place of each of the tenant's digests that engines hold."""
        found: dict[str, Tier] = {}
        for description in (await self._engines.describe()).values():
            for state in description.adapters:
                if state.tier is not Tier.DATABASE and tenant_of(state.identity) == str(tenant_id):
                    digest = state.identity.partition("/")[2]
                    found[digest] = _fastest(found.get(digest), state.tier)
        return found


def _conditions(viewer: Principal, tenant_id: UUID, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Adapter.tenant_id == tenant_id]
    if wanted.search:
        conditions.append(Adapter.name.icontains(wanted.search, autoescape=True))
    if wanted.base:
        of_base = AdapterVersion.base_model.icontains(wanted.base, autoescape=True)
        conditions.append(exists().where(AdapterVersion.adapter_id == Adapter.id, of_base))
    if wanted.alias:
        of_alias = AdapterAlias.alias.icontains(wanted.alias, autoescape=True)
        conditions.append(exists().where(AdapterAlias.adapter_id == Adapter.id, of_alias))
    if viewer.adapters is not None:
        conditions.append(Adapter.name.in_(viewer.adapters))
    return conditions


async def _places(
    session: AsyncSession, tenant_id: UUID, tiers: Mapping[str, Tier]
) -> dict[str, Tier]:
    """The fastest place of each adapter an engine holds, by name."""
    digests = sorted(tiers)
    places: dict[str, Tier] = {}
    for begin in range(0, len(digests), DIGESTS):
        query = (
            select(Adapter.name, AdapterVersion.digest)
            .join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
            .where(
                Adapter.tenant_id == tenant_id,
                AdapterVersion.digest.in_(digests[begin : begin + DIGESTS]),
            )
        )
        for name, digest in await session.execute(query):
            places[name] = _fastest(places.get(name), tiers[digest])
    return places


async def _names_in(
    session: AsyncSession,
    conditions: Sequence[ColumnElement[bool]],
    tier: Tier,
    places: Mapping[str, Tier],
    after: str,
    limit: int,
) -> list[str]:
    """The next names in a tier. The database orders them: Python may order other letters differently."""
    found: list[str] = []
    while len(found) < limit:
        query = select(Adapter.name).where(*conditions, Adapter.name > after)
        names = list(await session.scalars(query.order_by(Adapter.name).limit(NAMES)))
        found += [name for name in names if places.get(name, Tier.DATABASE) is tier]
        if len(names) < NAMES:
            break
        after = names[-1]
    return found[:limit]


async def _add_newest(session: AsyncSession, rows: Mapping[UUID, Row]) -> None:
    other = aliased(AdapterVersion)
    newest = (
        select(func.max(other.n))
        .where(other.adapter_id == AdapterVersion.adapter_id)
        .correlate(AdapterVersion)
        .scalar_subquery()
    )
    query = (
        select(
            AdapterVersion.adapter_id,
            AdapterVersion.n,
            AdapterVersion.base_model,
            AdapterVersion.rank,
            Blob.size,
            AdapterVersion.created_at,
        )
        .join(Blob, Blob.id == AdapterVersion.blob_id)
        .where(AdapterVersion.adapter_id.in_(rows), AdapterVersion.n == newest)
    )
    for adapter_id, n, base, rank, size, created_at in await session.execute(query):
        rows[adapter_id].newest = Newest(n, base, rank, size, created_at)


async def _add_tiers(
    session: AsyncSession, rows: Mapping[UUID, Row], tiers: Mapping[str, Tier]
) -> None:
    for row in rows.values():
        row.tier = Tier.DATABASE
    query = select(AdapterVersion.adapter_id, AdapterVersion.digest).where(
        AdapterVersion.adapter_id.in_(rows)
    )
    for adapter_id, digest in await session.execute(query):
        row = rows[adapter_id]
        row.tier = _fastest(row.tier, tiers.get(digest, Tier.DATABASE))


async def _add_traffic(session: AsyncSession, tenant_id: UUID, rows: Mapping[UUID, Row]) -> None:
    hour = utc_now().replace(minute=0, second=0, microsecond=0)
    start = hour - timedelta(hours=TRAFFIC_HOURS - 1)
    hourly = {row.adapter.name: [0] * TRAFFIC_HOURS for row in rows.values()}
    sums = (
        select(UsageRollup.adapter, UsageRollup.start, func.sum(UsageRollup.requests))
        .where(
            UsageRollup.unit == HOUR,
            UsageRollup.tenant_id == tenant_id,
            UsageRollup.start >= start,
            UsageRollup.start <= hour,
            UsageRollup.adapter.in_(hourly),
        )
        .group_by(UsageRollup.adapter, UsageRollup.start)
    )
    for name, at, requests in await session.execute(sums):
        hourly[name][(at - start) // timedelta(hours=1)] = int(requests)
    # One step into an index for each adapter; a group over all of its rows would read them all.
    last = (
        select(LedgerEntry.created_at)
        .where(LedgerEntry.tenant_id == tenant_id, LedgerEntry.adapter == Adapter.name)
        .order_by(LedgerEntry.id.desc())
        .limit(1)
        .correlate(Adapter)
        .scalar_subquery()
    )
    for adapter_id, at in await session.execute(
        select(Adapter.id, last).where(Adapter.id.in_(rows))
    ):
        row = rows[adapter_id]
        row.traffic = Traffic(hourly[row.adapter.name], at)


def _fastest(one: Tier | None, other: Tier) -> Tier:
    return other if one is None else min(one, other, key=_FASTEST_FIRST.index)
