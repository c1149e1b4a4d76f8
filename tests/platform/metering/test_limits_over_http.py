"""Limits and the ledger as clients of the API see them: headers, errors, caps, one row per request."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
import openai
import pytest
from sqlalchemy import select

from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.settlement import SETTLED
from loraplex.platform.settings import Settings
from support.meters import entries, limit, meter_of, set_price
from support.scripted_engine import FAILS, REFUSED
from support.served import Served, served
from support.services import bearer, sqlite_only


async def limited(service: Served, **limits: int) -> tuple[str, UUID]:
    """A tenant with limits: its key and its id."""
    key = await service.tenant("acme")
    async with service.database.main.reading(EVERY_TENANT) as session:
        tenant = (await session.scalars(select(Tenant.id))).one()
    if limits:
        await limit(service.database, tenant, "tenant", str(tenant), **limits)
    return key, tenant


async def settled(service: Served, number: int) -> None:
    """Return when so many rows are settled."""
    while sum(row.state == SETTLED for row in await entries(service.database)) < number:  # noqa: ASYNC110 - of the database
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """Return when the engine's thread has made it true."""
    while not condition():  # noqa: ASYNC110 - a thread sets no event
        await asyncio.sleep(0.01)


async def test_every_answer_says_what_it_cost_and_what_is_left(settings: Settings) -> None:
    async with served(settings) as service:
        key, tenant = await limited(service, requests_per_minute=2, tokens_per_minute=1000)
        answer = await service.complete(key, max_tokens=3)
        assert answer.status_code == 200, answer.text
        assert 0 < float(answer.headers["x-loraplex-overhead-ms"]) < 60_000
        assert int(answer.headers["openai-processing-ms"]) >= 0
        left = {k: v for k, v in answer.headers.items() if k.startswith("x-ratelimit")}
        assert left.pop("x-ratelimit-reset-requests")[-1] == "s"
        assert left.pop("x-ratelimit-reset-tokens")[-1] == "s"
        assert left == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "995",
        }
        stream = await service.complete(key, max_tokens=3, stream=True)
        assert stream.status_code == 200
        assert stream.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-loraplex-overhead-ms" in stream.headers
        refused = await service.complete(key, max_tokens=3)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert error["message"].startswith("Your tenant may send 2 requests per minute; wait ")
        assert 0 < int(refused.headers["retry-after-ms"]) <= 65_000
        assert 0 < int(refused.headers["retry-after"]) <= 65
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-loraplex-overhead-ms" in refused.headers
        assert "x-should-retry" not in refused.headers
        await settled(service, 2)
        assert (await meter_of(service.database, tenant)).running == 0


@sqlite_only
async def test_openai_clients_understand_a_refusal(settings: Settings) -> None:
    async with served(settings) as service:
        key, _ = await limited(service, tokens_per_month=8)
        asked = 0

        async def count(_: httpx.Request) -> None:
            nonlocal asked
            asked += 1

        service.http.event_hooks["request"].append(count)
        client = openai.AsyncOpenAI(
            api_key=key,
            base_url="http://test/v1",
            http_client=service.http,  # type: ignore[arg-type]  # typed for another package of the same interface
            max_retries=3,
        )
        await client.completions.create(model="tiny", prompt=[1, 2], max_tokens=5)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.completions.create(model="tiny", prompt=[1, 2], max_tokens=5)
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert asked == 2


@sqlite_only
async def test_a_request_is_one_row_however_many_answers_it_has(settings: Settings) -> None:
    async with served(settings) as service:
        key, _ = await limited(service)
        body = {"prompt": [[1, 2], [3, 4, 5]], "n": 2, "max_tokens": 4}
        answer = await service.complete(key, **body)
        await settled(service, 1)
        (row,) = await entries(service.database)
        usage = answer.json()["usage"]
        assert (row.prompt_tokens, row.output_tokens) == (5, 16)
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 16)
        assert (row.choices, row.finish_reason, row.reserved_tokens) == (4, "length", 21)
        assert row.answer_id == answer.json()["id"]
        assert row.decode_ms == 1000.0
        assert row.first_token_ms is not None
        assert 0 < row.first_token_ms <= row.total_ms
        listed = await service.http.get("/api/v1/requests", headers=bearer(key))
        (shown,) = listed.json()["data"]
        assert (shown["choices"], shown["output_tokens"]) == (4, 16)
        # The engine need not remember it any more.
        await until(lambda: not service.engine.loop._finals)


@sqlite_only
async def test_a_request_that_does_not_run_gives_all_back(settings: Settings) -> None:
    async with served(settings) as service:
        key, tenant = await limited(service, tokens_per_minute=100, max_concurrent=5)
        refused = await service.complete(key, prompt=[[1, 2], [REFUSED]], max_tokens=5)
        assert refused.status_code == 400
        failed = await service.complete(key, prompt=[[FAILS], [1, 2]], max_tokens=30)
        assert failed.status_code == 503
        await settled(service, 2)
        first, second = await entries(service.database)
        assert (first.finish_reason, first.prompt_tokens, first.output_tokens) == ("refused", 0, 0)
        assert second.finish_reason == "error"
        meter = await meter_of(service.database, tenant)
        assert meter.running == 0
        assert meter.month_tokens == second.prompt_tokens + second.output_tokens


async def test_no_more_is_reserved_than_the_model_can_write(settings: Settings) -> None:
    async with served(settings) as service:
        await set_price(service.database, 10**9, 10**9, 10**9)  # the highest there is
        key, _ = await limited(service, tokens_per_minute=1_000_000)
        # More than the model can write is the engine's to refuse, not a matter of limits.
        refused = await service.complete(key, prompt=[[REFUSED]], max_tokens=2**31 - 1, n=128)
        assert refused.status_code == 400, refused.text
        (row,) = await entries(service.database)
        assert row.reserved_tokens == 1 + 128 * 1000
        assert row.reserved_nanos == row.reserved_tokens * 10**9


@sqlite_only
async def test_a_reader_that_leaves_pays_for_what_it_got(settings: Settings) -> None:
    async with served(settings, step_seconds=0.005) as service:
        key, tenant = await limited(service, tokens_per_minute=2000)
        task = asyncio.create_task(service.complete(key, max_tokens=900))
        await until(lambda: bool(service.engine.engine.running))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settled(service, 1)
        (row,) = await entries(service.database)
        assert row.finish_reason == "cancelled"
        assert row.output_tokens < 900
        meter = await meter_of(service.database, tenant)
        assert (meter.running, meter.month_tokens) == (0, 2 + row.output_tokens)


@sqlite_only
async def test_an_engine_that_is_lost_charges_nothing_that_was_not_read(settings: Settings) -> None:
    async with served(settings) as service:
        key, tenant = await limited(service, tokens_per_minute=2000)
        service.engine.stop()
        client = service.pool.for_base("tiny").client
        await until(lambda: not client.ready)
        client._patience = 0.05
        answer = await service.complete(key, max_tokens=9)
        assert answer.json()["error"]["code"] == "engine_unavailable"
        await settled(service, 1)
        (row,) = await entries(service.database)
        assert (row.finish_reason, row.prompt_tokens, row.output_tokens) == ("lost", 0, 0)
        assert (await meter_of(service.database, tenant)).month_tokens == 0


@sqlite_only
async def test_an_answer_without_max_tokens_is_capped_and_ends_with_length(
    settings: Settings,
) -> None:
    async with served(settings) as service:
        key, tenant = await limited(service, tokens_per_minute=400)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
        answer = await service.http.post("/v1/chat/completions", json=body, headers=bearer(key))
        assert answer.status_code == 200, answer.text
        choice, usage = answer.json()["choices"][0], answer.json()["usage"]
        assert choice["finish_reason"] == "length"
        assert usage["completion_tokens"] == 100
        remaining = 400 - usage["prompt_tokens"] - 100
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(remaining)
        await settled(service, 1)
        (row,) = await entries(service.database)
        assert (row.endpoint, row.reserved_tokens) == ("chat", usage["total_tokens"])
        refused = await service.http.post(
            "/v1/chat/completions", json={**body, "max_tokens": 400}, headers=bearer(key)
        )
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert refused.headers["x-should-retry"] == "false"
        assert (await meter_of(service.database, tenant)).running == 0
