"""Whatever happens in whatever order: meters and sums say what the ledger says."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering.settlement import REAPED, RESERVED, SETTLED
from loraplex.platform.metering.work import Request
from support.meters import (
    Clock,
    ended,
    entries,
    limit,
    meter_of,
    metering,
    new_tenant,
    request,
    rollups,
    set_price,
)

KEYS = (("key000000001", "key000000002"), ("key000000003",))
# Minutes, hours, days and months end within a run.
START = datetime(2026, 11, 30, 22, 58, 30, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(3))
async def test_sums_and_meters_are_those_of_the_ledger(database: Database, seed: int) -> None:
    rng, clock = random.Random(seed), Clock(START)
    tenants = [await new_tenant(database, name) for name in ("acme", "globex")]
    await set_price(database, 3, 1, 7)
    plenty = {"requests_per_minute": 40, "tokens_per_month": 5_000, "max_concurrent": 9}
    await limit(database, tenants[0], "tenant", str(tenants[0]), **plenty)
    running: list[tuple[UUID, Request]] = []
    closed: list[tuple[UUID, Request]] = []

    def wanted() -> Request:
        who = rng.randrange(2)
        asked = request(tenants[who], rng.randint(1, 20), rng.randint(1, 20))
        asked = asked._replace(key_id=rng.choice(KEYS[who]))
        if rng.random() < 0.5:
            return asked
        return asked._replace(adapter="fox", version=rng.randint(1, 2), version_id=uuid4())

    async def begin() -> None:
        asked = wanted()
        try:
            reservation = await own.reserve(asked)
        except LimitExceededError:
            return
        running.append((reservation.id, asked))

    async def end(id_: UUID, asked: Request, by_reaper: bool) -> None:
        demand = asked.demand
        prompt, output = demand.prompt_tokens, rng.randint(0, demand.max_tokens or 0)
        reason = rng.choice(("stop", "length", "error", "lost", "cancelled"))
        state = REAPED if by_reaper else SETTLED
        cached = rng.randint(0, prompt)
        await (reaper if by_reaper else own).settle(
            ended(id_, prompt, output, cached=cached, reason=reason, state=state)
        )

    async with metering(database, clock) as own, metering(database, clock) as reaper:
        for step in range(12):
            clock.move(rng.choice((0, 1, 20, 400, 1900)))
            work = [begin() for _ in range(rng.randint(1, 8))]
            for _ in range(rng.randint(0, min(6, len(running)))):
                closed.append(running.pop(rng.randrange(len(running))))
                work.append(end(*closed[-1], by_reaper=rng.random() < 0.3))
            work += [end(*rng.choice(closed), by_reaper=rng.random() < 0.3) for _ in closed[:2]]
            await asyncio.gather(*work)
            if step == 6:
                await limit(database, tenants[0], "key", KEYS[0][0], tokens_per_minute=300)
                await limit(database, tenants[1], "tenant", str(tenants[1]), **plenty)
                await asyncio.gather(begin(), begin())
    rows = await entries(database)
    assert len(rows) > 20
    assert {row.state for row in rows} >= {RESERVED, SETTLED}
    await _sums_agree(database, rows)
    await _meters_agree(database, rows, [*map(str, tenants), KEYS[0][0]], clock.now)


async def _sums_agree(database: Database, rows: list[LedgerEntry]) -> None:
    expected: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        if row.state == RESERVED:
            continue
        at = row.created_at.replace(second=0, microsecond=0)
        hour = at.replace(minute=0)
        for unit, start in (("m", at), ("h", hour), ("d", hour.replace(hour=0))):
            line = (unit, row.tenant_id, start, row.key_id, row.adapter or "", row.version or 0)
            expected[*line, "requests"] += 1
            expected[*line, "errors"] += row.finish_reason in ("error", "lost")
            for name in ("prompt_tokens", "cached_tokens", "output_tokens", "cost_nanos"):
                expected[*line, name] += getattr(row, name)
    stored = Counter(
        {
            (r.unit, r.tenant_id, r.start, r.key_id, r.adapter, r.version, name): getattr(r, name)
            for r in await rollups(database)
            for name in (
                "requests",
                "errors",
                "prompt_tokens",
                "cached_tokens",
                "output_tokens",
                "cost_nanos",
            )
        }
    )
    assert stored == expected
    assert any(expected.values())


async def _meters_agree(
    database: Database, rows: list[LedgerEntry], subjects: list[str], now: datetime
) -> None:
    for subject in subjects:
        meter = await meter_of(database, subject)
        own = [row for row in rows if subject in (str(row.tenant_id), row.key_id)]
        assert meter.running == sum(row.state == RESERVED for row in own)
        month = [row for row in own if f"{row.created_at:%Y-%m}" == meter.month]
        assert meter.month_tokens == sum(map(_tokens, month))
        assert meter.month_cost_nanos == sum(map(_cost, month))
        known = {slot: (requests, tokens) for slot, requests, tokens in meter.window}
        for row in own:
            if row.created_at > now - timedelta(seconds=60):
                assert int(row.created_at.timestamp() // 5) in known


def _tokens(row: LedgerEntry) -> int:
    if row.state == RESERVED:
        return row.reserved_tokens
    return row.prompt_tokens + row.output_tokens


def _cost(row: LedgerEntry) -> int:
    return row.reserved_nanos if row.state == RESERVED else row.cost_nanos
