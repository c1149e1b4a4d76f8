"""Owns what tests of usage share: requests of several tenants, spread over time, and their sums by hand."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.work import Request
from support.meters import BASE, Clock, ended, metering

NUMBERS = ("requests", "errors", "prompt_tokens", "cached_tokens", "output_tokens", "cost_nanos")
USER = "usr_Ab3dEf9h"
KEYS = ("key000000001", "key000000002", USER)
ADAPTERS = (None, "fox", "owl")


async def tenant_id(database: Database, name: str) -> UUID:
    async with database.main.reading(EVERY_TENANT) as session:
        found = await session.scalar(select(Tenant.id).where(Tenant.name == name))
    assert found is not None
    return found


async def fill(
    database: Database, tenant: UUID, start: datetime, count: int, every: timedelta
) -> None:
    """Settle `count` requests from `start` on, of changing keys, adapters, sizes and ends."""
    clock = Clock(start)
    async with metering(database, clock) as own:
        for number in range(count):
            adapter = ADAPTERS[number % 3]
            asked = Request(
                tenant, KEYS[number // 2 % 3], f"cmpl-{number}", "completions", BASE,
                Demand(50, 1, 9, 99),
            )  # fmt: skip
            if adapter is not None:
                version = 1 + number % 2
                asked = asked._replace(
                    adapter_id=uuid5(tenant, adapter), adapter=adapter, version=version,
                    version_id=uuid5(tenant, f"{adapter}@{version}"), digest="d" * 64,
                )  # fmt: skip
            kept = await own.reserve(asked)
            reason = "error" if number % 5 == 0 else "stop"
            await own.settle(
                ended(kept.id, 10 + number % 40, number % 7, cached=number % 4, reason=reason)
            )
            clock.move(every.total_seconds())


def sums(rows: Iterable[LedgerEntry]) -> Counter[str]:
    """What rollups should say of settled rows."""
    total: Counter[str] = Counter()
    for row in rows:
        total["requests"] += 1
        total["errors"] += row.finish_reason == "error"
        for name in NUMBERS[2:]:
            total[name] += getattr(row, name)
    return total
