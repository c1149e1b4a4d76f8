"""What is old goes, in small batches; what runs stays, and so do the sums of days."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.usage.retention import Retention
from support.meters import Clock, entries, metering, new_tenant, request, rollups
from support.usage import fill

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENDLESS = asyncio.Event()


def old(days: float) -> datetime:
    return NOW - timedelta(days=days)


async def kept(database: Database) -> Counter[object]:
    return Counter(row.tenant_id for row in await entries(database))


async def test_ledger_rows_go_by_the_days_of_their_tenant(database: Database) -> None:
    short, usual, gone = [await new_tenant(database, name) for name in ("short", "usual", "gone")]
    async with database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(Tenant).where(Tenant.id == short).values(ledger_days=3))
    for tenant in (short, usual, gone):
        await fill(database, tenant, old(9), 10, timedelta(days=1))
        async with metering(database, Clock(old(50))) as own:
            await own.reserve(request(tenant))
    async with database.main.writing(EVERY_TENANT) as session:
        tenant_gone = await session.get(Tenant, gone)
        await session.delete(tenant_gone)
    nothing = await Retention(database, None, clock=Clock(NOW)).clean(ENDLESS)
    assert nothing.requests == 6
    # Of ages 9 to 0 days: those of up to 3 stay, and what still runs.
    assert await kept(database) == {short: 5, usual: 11, gone: 11}
    # As small batches, by two workers at once.
    workers = [Retention(database, 5, batch=2, clock=Clock(NOW)) for _ in range(2)]
    both = await asyncio.gather(*(worker.clean(ENDLESS) for worker in workers))
    assert sum(expired.requests for expired in both) == 8
    assert await kept(database) == {short: 5, usual: 7, gone: 7}
    assert sum(row.state == "reserved" for row in await entries(database)) == 3
    again = await workers[0].clean(ENDLESS)
    assert again.requests == 0


async def test_sums_of_minutes_and_hours_go_and_those_of_days_stay(database: Database) -> None:
    tenant = await new_tenant(database)
    for days in (500, 401, 399, 15, 13, 0):
        await fill(database, tenant, old(days), 3, timedelta(seconds=1))
    before = Counter(row.unit for row in await rollups(database))
    assert before["d"] == before["m"] == before["h"] == 18
    expired = await Retention(database, None, batch=2, clock=Clock(NOW)).clean(ENDLESS)
    assert (expired.requests, expired.minutes, expired.hours) == (0, 12, 6)
    assert Counter(row.unit for row in await rollups(database)) == {"m": 6, "h": 12, "d": 18}
    assert min(row.start for row in await rollups(database) if row.unit == "m") > old(14)
    assert min(row.start for row in await rollups(database) if row.unit == "h") > old(400)


async def test_a_worker_that_ends_leaves_the_rest_to_others(database: Database) -> None:
    tenant = await new_tenant(database)
    await fill(database, tenant, old(9), 5, timedelta(seconds=1))
    ending = asyncio.Event()
    ending.set()
    expired = await Retention(database, 1, batch=2, clock=Clock(NOW)).clean(ending)
    assert expired.requests == 0
    running = asyncio.create_task(Retention(database, 1).run(ending))
    await running
    assert len(await entries(database)) == 5
