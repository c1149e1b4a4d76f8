"""Limits under concurrency: four processes at once, each with its own `Metering`, on one database."""

import asyncio

from loraplex.platform.db.database import Database
from loraplex.platform.metering.settlement import SETTLED
from loraplex.platform.settings import Settings
from support.meters import count, meter_of, new_tenant, rollups, set_price
from support.reserving import reserve_in_processes

# Each admits exactly ten requests of 5 + 5 tokens at 1 + 3 per token.
LIMITS = {
    "requests": ({"requests_per_minute": 10}, "rate_limit_exceeded"),
    "concurrent": ({"max_concurrent": 10}, "rate_limit_exceeded"),
    "tokens": ({"tokens_per_minute": 100}, "rate_limit_exceeded"),
    "budget": ({"tokens_per_month": 100}, "insufficient_quota"),
    "money": ({"cost_per_month_nanos": 200}, "insufficient_quota"),
}


async def test_no_limit_is_ever_exceeded_whichever_worker_asks(
    settings: Settings, database: Database
) -> None:
    await set_price(database, 1, 0, 3)
    tenants = {name: await new_tenant(database, name, **own) for name, (own, _) in LIMITS.items()}
    results = await asyncio.to_thread(
        reserve_in_processes, settings, list(tenants.values()), processes=4, each=50
    )
    for name, tenant in tenants.items():
        assert sum(granted[tenant] for granted, _ in results) == 10, name
        refused = sum(refusals[str(tenant), LIMITS[name][1]] for _, refusals in results)
        assert refused == 190, name
        meter = await meter_of(database, tenant)
        assert (meter.running, meter.month_tokens, meter.month_cost_nanos) == (0, 60, 80)
    assert await count(database, SETTLED) == 50
    days = [row for row in await rollups(database) if row.unit == "d"]
    assert sum(row.requests for row in days) == 50
    assert sum(row.output_tokens for row in days) == 50
