"""Owns what tests of metering share: a running `Metering`, tenants with limits, requests, what the database says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry, Limit, Meter, Price, Tenant, UsageRollup
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.settlement import SETTLED, Settlement
from loraplex.platform.metering.work import Request

BASE = "tiny"
KEY_ID = "key000000001"


class Clock:
    """The time, which only a test moves."""

    def __init__(self, start: datetime | None = None) -> None:
        self.now = start or datetime(2026, 11, 10, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@asynccontextmanager
async def metering(
    database: Database, clock: Callable[[], datetime] = utc_now, worker: UUID | None = None
) -> AsyncIterator[Metering]:
    """One that has written everything when the block is left."""
    one = Metering(database, worker or uuid7(), clock=clock)
    running = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        await one.close(running)


async def new_tenant(database: Database, name: str = "acme", **limits: int) -> UUID:
    """A tenant, with limits if there are any."""
    tenant = Tenant(name=name)
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(tenant)
        await session.flush()
        if limits:
            session.add(_limit(tenant.id, "tenant", str(tenant.id), limits))
    return tenant.id


async def limit(
    database: Database, tenant: UUID, kind: str, subject_id: str, **limits: int
) -> None:
    """Limit a tenant, a key or an adapter."""
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(_limit(tenant, kind, subject_id, limits))


async def set_price(database: Database, *nanos: int, adapter: UUID | None = None) -> None:
    """Per input, cached and output token."""
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(
            Price(
                base_model=BASE,
                adapter_id=adapter,
                input_nanos=nanos[0],
                cached_nanos=nanos[1],
                output_nanos=nanos[2],
            )
        )


def request(
    tenant: UUID, prompt: int = 5, most: int | None = 5, *, answers: int = 1, room: int = 100
) -> Request:
    """One that may take `prompt` + `answers` * `most` tokens."""
    return Request(
        tenant, KEY_ID, "cmpl-1", "completions", BASE, Demand(prompt, answers, most, room)
    )


def ended(
    ledger_id: UUID,
    prompt: int = 5,
    output: int = 2,
    *,
    cached: int = 0,
    reason: str = "stop",
    state: str = SETTLED,
) -> Settlement:
    return Settlement(ledger_id, state, reason, prompt, cached, output, 0.5, 0.1)


async def entries(database: Database) -> list[LedgerEntry]:
    """The ledger, oldest first."""
    async with database.main.reading(EVERY_TENANT) as session:
        return list(await session.scalars(select(LedgerEntry).order_by(LedgerEntry.id)))


async def meter_of(database: Database, subject_id: object) -> Meter:
    async with database.main.reading(EVERY_TENANT) as session:
        return (
            await session.scalars(select(Meter).where(Meter.subject_id == str(subject_id)))
        ).one()


async def rollups(database: Database) -> list[UsageRollup]:
    async with database.main.reading(EVERY_TENANT) as session:
        query = select(UsageRollup).order_by(UsageRollup.unit, UsageRollup.start)
        return list(await session.scalars(query))


async def count(database: Database, state: str) -> int:
    """Ledger rows in a state."""
    async with database.main.reading(EVERY_TENANT) as session:
        query = select(func.count()).select_from(LedgerEntry).where(LedgerEntry.state == state)
        return await session.scalar(query) or 0


def _limit(tenant: UUID, kind: str, subject_id: str, limits: dict[str, int]) -> Limit:
    return Limit(tenant_id=tenant, subject=kind, subject_id=subject_id, **limits)
