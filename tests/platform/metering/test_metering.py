"""Reservations and settlements on both databases: what is counted, refunded and summed, and that it is so once."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from loraplex.engine.request import Timings
from loraplex.platform.db.database import Database
from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering.settlement import REAPED, RESERVED, SETTLED
from support.meters import (
    BASE,
    KEY_ID,
    Clock,
    count,
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


async def test_a_row_is_reserved_before_and_settled_after(database: Database) -> None:
    tenant, worker, clock = await new_tenant(database), uuid4(), Clock()
    version_id = uuid4()
    wanted = request(tenant, 30, 10, answers=2)._replace(
        adapter="fox", adapter_id=uuid4(), version=3, version_id=version_id, digest="d" * 64
    )
    async with metering(database, clock, worker) as own:
        reservation = await own.reserve(wanted)
        (row,) = await entries(database)
        assert (row.id, row.tenant_id, row.key_id) == (reservation.id, tenant, KEY_ID)
        assert (row.state, row.finish_reason, row.worker_id) == (RESERVED, "running", worker)
        assert (row.answer_id, row.endpoint, row.choices) == ("cmpl-1", "completions", 2)
        assert (row.base_model, row.adapter, row.version) == (BASE, "fox", 3)
        assert (row.version_id, row.digest, row.created_at) == (version_id, "d" * 64, clock.now)
        assert (row.reserved_tokens, row.reserved_nanos, row.limited) == (50, 0, None)
        assert (row.prompt_tokens, row.output_tokens, row.total_ms) == (0, 0, 0.0)
        assert reservation.max_tokens is None
        assert reservation.headers == {}
        timings = Timings(0.25, 1.5, 0.125, 2.0, 1, 7)
        end = ended(reservation.id, 30, 9, cached=16)
        await own.settle(end._replace(timings=timings, evicted_by="t/d"))
    (row,) = await entries(database)
    assert (row.state, row.finish_reason) == (SETTLED, "stop")
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (30, 16, 9)
    assert (row.total_ms, row.first_token_ms) == (500.0, 100.0)
    assert (row.queue_ms, row.load_ms, row.prefill_ms, row.decode_ms) == (250, 1500, 125, 2000)
    assert (row.preemptions, row.evicted_by, row.reserved_tokens) == (1, "t/d", 50)


async def test_what_was_not_used_is_given_back(database: Database) -> None:
    tenant = await new_tenant(
        database, requests_per_minute=3, tokens_per_minute=30, max_concurrent=2, tokens_per_month=40
    )
    async with metering(database, Clock()) as own:
        first = await own.reserve(request(tenant, 5, 15))
        assert first.headers["x-ratelimit-remaining-tokens"] == "10"
        with pytest.raises(LimitExceededError, match=r"30 tokens per minute, of which 10 are left"):
            await own.reserve(request(tenant, 5, 15))
        await own.settle(ended(first.id, 5, 2))
        second = await own.reserve(request(tenant, 5, 15))
        assert second.headers["x-ratelimit-remaining-tokens"] == "3"
        assert second.headers["x-ratelimit-remaining-requests"] == "1"
        meter = await meter_of(database, tenant)
        assert (meter.running, meter.month_tokens, meter.month) == (1, 27, "2026-11")
        await own.settle(ended(second.id, 5, 15))
    meter = await meter_of(database, tenant)
    assert (meter.running, meter.month_tokens) == (0, 27)
    assert [sum(column) for column in zip(*meter.window, strict=True)][1:] == [2, 27]
    assert len(await entries(database)) == 2


async def test_settling_twice_counts_once(database: Database) -> None:
    tenant = await new_tenant(database, tokens_per_month=100)
    async with metering(database) as own:
        kept = await own.reserve(request(tenant))
        await asyncio.gather(*(own.settle(ended(kept.id, 5, n)) for n in (3, 4, 5)))
        await own.settle(ended(kept.id, 9, 9, reason="error"))
        await own.settle(ended(kept.id, 9, 9, state=REAPED))
        await own.settle(ended(uuid4()))  # of a row that was never committed
    (row,) = await entries(database)
    assert (row.state, row.finish_reason, row.output_tokens) == (SETTLED, "stop", 3)
    assert {(r.requests, r.errors, r.output_tokens) for r in await rollups(database)} == {(1, 0, 3)}
    meter = await meter_of(database, tenant)
    assert (meter.running, meter.month_tokens) == (0, 8)


async def test_what_was_reaped_is_corrected_by_its_own_worker(database: Database) -> None:
    tenant = await new_tenant(database, tokens_per_month=100, cost_per_month_nanos=1000)
    await set_price(database, 1, 0, 10)
    async with metering(database) as own, metering(database) as reaper:
        kept = await own.reserve(request(tenant))
        await reaper.settle(ended(kept.id, 5, 1, reason="lost", state=REAPED))
        await reaper.settle(ended(kept.id, 5, 2, reason="lost", state=REAPED))
        (row,) = await entries(database)
        assert (row.state, row.finish_reason, row.output_tokens, row.cost_nanos) == (
            REAPED,
            "lost",
            1,
            15,
        )
        assert {(r.requests, r.errors) for r in await rollups(database)} == {(1, 1)}
        await own.settle(ended(kept.id, 5, 4))
    (row,) = await entries(database)
    assert (row.state, row.finish_reason, row.output_tokens, row.cost_nanos) == (
        SETTLED,
        "stop",
        4,
        45,
    )
    sums = {(r.requests, r.errors, r.output_tokens, r.cost_nanos) for r in await rollups(database)}
    assert sums == {(1, 0, 4, 45)}
    meter = await meter_of(database, tenant)
    assert (meter.running, meter.month_tokens, meter.month_cost_nanos) == (0, 9, 45)


async def test_money_is_reserved_at_the_highest_and_settled_at_the_real_price(
    database: Database,
) -> None:
    tenant = await new_tenant(database, cost_per_month_nanos=1000)
    await set_price(database, 10, 2, 30)
    async with metering(database) as own:
        first = await own.reserve(request(tenant, 10, 20))
        (row,) = await entries(database)
        assert row.reserved_nanos == 10 * 10 + 20 * 30
        with pytest.raises(LimitExceededError) as refused:
            await own.reserve(request(tenant, 10, 20))
        assert refused.value.code == "insufficient_quota"
        assert refused.value.retry_after is None
        assert "0.000001 per month, of which 0.0000003 is left" in refused.value.message
        await own.settle(ended(first.id, 10, 3, cached=4))
        await own.reserve(request(tenant, 10, 20))
    row, _ = await entries(database)
    assert row.cost_nanos == 6 * 10 + 4 * 2 + 3 * 30
    assert (await meter_of(database, tenant)).month_cost_nanos == row.cost_nanos + 700


async def test_every_limited_subject_counts_and_names_itself(database: Database) -> None:
    tenant = await new_tenant(database, requests_per_minute=3)
    await limit(database, tenant, "key", KEY_ID, max_concurrent=1)
    clock = Clock()
    async with metering(database, clock) as own:
        kept = await own.reserve(request(tenant))
        with pytest.raises(LimitExceededError, match=r"^Your key may run 1 requests at once") as e:
            await own.reserve(request(tenant))
        assert e.value.retry_after == 1.0
        await own.settle(ended(kept.id))
        for _ in range(2):
            await own.settle(ended((await own.reserve(request(tenant))).id))
        with pytest.raises(LimitExceededError, match=r"^Your tenant may send 3 requests per") as e:
            await own.reserve(request(tenant))
        assert e.value.retry_after == 65.0
        assert e.value.headers["x-ratelimit-remaining-requests"] == "0"
        assert e.value.headers["x-ratelimit-reset-requests"] == "1m5s"
        clock.move(e.value.retry_after)
        await own.reserve(request(tenant))
    assert (await meter_of(database, KEY_ID)).running == 1


async def test_a_limit_set_in_mid_month_begins_with_the_sums_of_the_month(
    database: Database,
) -> None:
    tenant = await new_tenant(database)
    clock = Clock(datetime(2026, 10, 31, 23, 59, 50, tzinfo=UTC))
    async with metering(database, clock) as own:
        await own.settle(ended((await own.reserve(request(tenant))).id, 5, 5))
        clock.now = datetime(2026, 11, 10, 12, 0, 0, tzinfo=UTC)
        await own.settle(ended((await own.reserve(request(tenant))).id, 5, 4))
        clock.move(120)
        await own.settle(ended((await own.reserve(request(tenant))).id, 5, 3))
        running = await own.reserve(request(tenant, 5, 5))
        await limit(
            database, tenant, "tenant", str(tenant), tokens_per_month=1000, max_concurrent=9
        )
        await limit(database, tenant, "key", KEY_ID, tokens_per_minute=1000)
        fresh = await own.reserve(request(tenant, 5, 5))
        for subject in (tenant, KEY_ID):
            meter = await meter_of(database, subject)
            assert (meter.running, meter.month_tokens) == (2, 9 + 8 + 10 + 10)
            # The last minute: one that ended, one that ran already, and the new one.
            assert [sum(c) for c in zip(*meter.window, strict=True)][1:] == [3, 8 + 10 + 10]
        await own.settle(ended(running.id, 5, 1))
        await own.settle(ended(fresh.id, 5, 1))
    meter = await meter_of(database, tenant)
    assert (meter.running, meter.month_tokens) == (0, 9 + 8 + 6 + 6)


async def test_a_month_begins_at_zero_and_keeps_out_of_the_one_before(database: Database) -> None:
    tenant = await new_tenant(database, tokens_per_month=20)
    clock = Clock(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    async with metering(database, clock) as own:
        old = await own.reserve(request(tenant, 5, 10))
        with pytest.raises(LimitExceededError):
            await own.reserve(request(tenant, 5, 10))
        clock.move(2)
        new = await own.reserve(request(tenant, 5, 10))
        await own.settle(ended(old.id, 5, 1))
        meter = await meter_of(database, tenant)
        assert (meter.month, meter.month_tokens, meter.running) == ("2026-12", 15, 1)
        await own.settle(ended(new.id, 5, 2))
    assert (await meter_of(database, tenant)).month_tokens == 7


async def test_a_refused_request_leaves_no_trace(database: Database) -> None:
    tenant = await new_tenant(database, requests_per_minute=10, tokens_per_minute=5)
    async with metering(database) as own:
        for _ in range(3):
            with pytest.raises(LimitExceededError) as refused:
                await own.reserve(request(tenant, 5, 5))
            # Larger than the limit itself: it never fits.
            assert (refused.value.code, refused.value.retry_after) == ("rate_limit_exceeded", None)
            assert refused.value.headers["x-ratelimit-remaining-requests"] == "10"
        await own.settle(ended((await own.reserve(request(tenant, 2, 3))).id))
    assert await count(database, SETTLED) == 1
    assert len(await entries(database)) == 1


async def test_who_leaves_while_it_is_reserved_leaves_nothing_behind(database: Database) -> None:
    tenant = await new_tenant(database, max_concurrent=100)
    async with metering(database) as own:
        tasks = [asyncio.create_task(own.reserve(request(tenant))) for _ in range(20)]
        for task in tasks[::2]:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        kept = sum(not task.cancelled() for task in tasks)
        assert kept >= 10
    assert await count(database, RESERVED) == kept
    assert (await meter_of(database, tenant)).running == kept
