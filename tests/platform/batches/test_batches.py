"""Batches by the OpenAI client over a scripted engine: run, refused, cancelled, late, and taken up again."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import openai
import pytest
from openai.types import Batch as OpenAIBatch
from sqlalchemy import func, select, update

from loraplex.platform.batches import rights, store
from loraplex.platform.batches.endpoints import Tokens
from loraplex.platform.batches.store import BatchStore, Result
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import open_database
from loraplex.platform.db.models import Batch, BatchResult, Job, LedgerEntry, WebhookDelivery
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.files.ids import BATCH, read
from loraplex.platform.jobs.leases import Claim, JobLostError
from loraplex.platform.settings import Settings
from support.openai_client import client_of
from support.patience import PATIENCE_SECONDS
from support.served import Served, served
from support.services import OPERATOR, bearer, sqlite_only

ENDED = ("completed", "failed", "expired", "cancelled")
OPS = bearer(OPERATOR)


def line(custom_id: str, **body: object) -> dict[str, object]:
    """A completion of as many letters as `max_tokens` says."""
    body = {"model": "tiny", "prompt": [1, 2], "max_tokens": 2, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body}


# Four that are soon through, and others that take minutes until the engine is told to be quick.
STEP_SECONDS = 0.05
LINES = [line(str(n), prompt=[n, 2], max_tokens=2 if n < 24 else 100) for n in range(20, 60)]


async def begin(client: openai.AsyncOpenAI, lines: Iterable[object], **options: Any) -> OpenAIBatch:
    """Send the lines and begin a batch."""
    content = "\n".join(json.dumps(each) for each in lines).encode()
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", **options
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something in the database."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the database sets no event
            await asyncio.sleep(0.02)


async def ended(client: openai.AsyncOpenAI, name: str) -> OpenAIBatch:
    """The batch when it has ended."""

    async def over() -> bool:
        return (await client.batches.retrieve(name)).status in ENDED

    await until(over)
    return await client.batches.retrieve(name)


async def lines_of(client: openai.AsyncOpenAI, name: str | None) -> list[dict[str, Any]]:
    """What a result file says; nothing if there is none."""
    if name is None:
        return []
    return [json.loads(x) for x in (await client.files.content(name)).text.splitlines()]


async def recorded(service: Served) -> int:
    """How many lines are through."""
    async with service.database.main.reading(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).select_from(BatchResult)) or 0


async def until_some_are_through(service: Served) -> None:
    """Then the engine stands still."""

    async def some() -> bool:
        return await recorded(service) >= 4

    await until(some)
    service.engine.engine.go.clear()
    service.engine.engine.step_seconds = 0.0


async def test_a_batch_is_run_to_its_end(settings: Settings) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        hook = {"url": "https://example.com/hook", "events": ["batch.completed"]}
        made = await service.http.post("/api/v1/webhooks?tenant=acme", json=hook, headers=OPS)
        assert made.status_code == 201, made.text
        # Enough to show that none of them is a request per minute.
        limit = {"requests_per_minute": 1, "max_concurrent": 20}
        put = "/api/v1/tenants/acme/limits"
        assert (await service.http.put(put, json=limit, headers=OPS)).status_code == 200
        good = [line(f"good {n}", prompt=[n, 2], max_tokens=n % 5 + 1) for n in range(20, 40)]
        bad = [line("model", model="nobody"), line("field", n=0), line("stream", stream=True)]
        chat = {**line("wrong"), "body": {"model": "tiny", "prompt": "x", "colour": "red"}}
        async with client_of(service.http, key) as client:
            batch = await begin(
                client,
                [*good[:10], *bad, chat, *good[10:]],
                metadata={"a": "b"},
                output_expires_after={"anchor": "created_at", "seconds": 3600},
            )
            assert (batch.status, batch.metadata) == ("validating", {"a": "b"})
            assert batch.expires_at == batch.created_at + 24 * 3600
            batch = await ended(client, batch.id)
            assert (batch.status, batch.errors, batch.model) == ("completed", None, None)
            counts = batch.request_counts
            assert counts is not None
            assert (counts.total, counts.completed, counts.failed) == (24, 20, 4)
            assert batch.usage is not None
            assert (batch.usage.input_tokens, batch.usage.output_tokens) == (40, 60)
            for moment in (batch.in_progress_at, batch.finalizing_at, batch.completed_at):
                assert moment is not None
            output = await lines_of(client, batch.output_file_id)
            assert [each["custom_id"] for each in output] == [each["custom_id"] for each in good]
            for asked, got in zip(good, output, strict=True):
                answer = got["response"]["body"]
                assert (got["error"], got["response"]["status_code"]) == (None, 200)
                body: Any = asked["body"]
                assert answer["choices"][0]["text"] == "abcdefgh"[: body["max_tokens"]]
            errors = await lines_of(client, batch.error_file_id)
            found = {
                each["custom_id"]: (
                    each["response"]["status_code"],
                    each["response"]["body"]["error"]["param"],
                )
                for each in errors
            }
            assert found == {
                "model": (404, "model"),
                "field": (400, "n"),
                "stream": (400, "stream"),
                "wrong": (400, "colour"),
            }
            assert batch.output_file_id is not None
            file = await client.files.retrieve(batch.output_file_id)
            assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 3600)
            page = await client.batches.list(limit=5)
            assert ([each.id for each in page.data], page.has_more) == ([batch.id], False)
            with pytest.raises(openai.ConflictError, match="completed"):
                await client.batches.cancel(batch.id)
        assert await recorded(service) == 0
        async with service.database.main.reading(EVERY_TENANT) as session:
            rows = (await session.scalars(select(LedgerEntry))).all()
            assert [row.endpoint for row in rows] == ["completions"] * 20
            assert {row.batch_id for row in rows} == {read(BATCH, batch.id)}
            sent = (await session.scalars(select(WebhookDelivery))).one()
            assert json.loads(sent.body)["data"] == {"id": batch.id}
        # A client's own request still has its minute.
        assert (await service.complete(key, max_tokens=1)).status_code == 200


@sqlite_only
async def test_what_cannot_begin_is_refused(settings: Settings) -> None:
    async with served(settings) as service:
        key, other = await service.tenant("acme"), await service.tenant("globex")
        async with client_of(service.http, key) as client, client_of(service.http, other) as theirs:
            batch = await begin(client, [line("a"), line("a"), {"custom_id": "b"}])
            batch = await ended(client, batch.id)
            assert (batch.status, batch.output_file_id) == ("failed", None)
            assert batch.errors is not None
            assert batch.errors.data is not None
            found = [(each.line, each.code, each.param) for each in batch.errors.data]
            assert found == [
                (2, "duplicate_custom_id", "custom_id"),
                (3, "missing_required_parameter", "method"),
            ]
            kinds = {"endpoint": "/v1/completions", "completion_window": "24h"}
            file = await client.files.create(file=b"{}", purpose="user_data")
            for name, status in ((file.id, 400), ("file-x", 404)):
                with pytest.raises(openai.APIStatusError) as refused:
                    await client.batches.create(input_file_id=name, **kinds)  # type: ignore[arg-type]  # texts
                assert refused.value.status_code == status
                assert refused.value.param == "input_file_id"
            with pytest.raises(openai.NotFoundError):
                await theirs.batches.create(input_file_id=batch.input_file_id, **kinds)  # type: ignore[arg-type]  # texts
            for call in (theirs.batches.retrieve, theirs.batches.cancel):
                with pytest.raises(openai.NotFoundError):
                    await call(batch.id)
            assert (await theirs.batches.list()).data == []
            with pytest.raises(openai.BadRequestError):
                await begin(client, [line("a")], metadata={"k": "v" * 513})
        jobs = await service.http.get("/api/v1/jobs?tenant=acme", headers=OPS)
        assert jobs.json()["data"] == []


@sqlite_only
@pytest.mark.parametrize("end", ["cancelled", "expired", "failed"])
async def test_a_batch_that_is_stopped_keeps_what_it_has(
    settings: Settings, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights, "CACHE_SECONDS", 0.0)
    async with served(settings, STEP_SECONDS) as service:
        key = await service.tenant("acme")
        async with client_of(service.http, key) as client:
            batch = await begin(client, LINES)
            await until_some_are_through(service)
            if end == "cancelled":
                assert (await client.batches.cancel(batch.id)).status in ("cancelling", "cancelled")
            elif end == "expired":
                past = utc_now() - timedelta(seconds=1)
                async with service.database.main.writing(EVERY_TENANT) as session:
                    await session.execute(update(Batch).values(expires_at=past))
            else:
                listed = await service.http.get("/api/v1/tenants/acme/keys", headers=OPS)
                url = f"/api/v1/tenants/acme/keys/{listed.json()['data'][0]['id']}"
                second = await service.tenant("acme")
                assert (await service.http.delete(url, headers=OPS)).status_code == 204
                service.engine.engine.go.set()
                client.api_key = second
            batch = await ended(client, batch.id)
            service.engine.engine.go.set()
            assert batch.status == end
            output = await lines_of(client, batch.output_file_id)
            errors = await lines_of(client, batch.error_file_id)
            names = {each["custom_id"] for each in (*output, *errors)}
            assert names == {str(n) for n in range(20, 60)}
            assert len(output) + len(errors) == 40
            counts = batch.request_counts
            assert counts is not None
            assert counts.completed == len(output) >= 4
            assert {each["error"]["code"] for each in errors} == {f"batch_{end}"}
            if end == "failed":
                assert batch.errors is not None
                assert batch.errors.data is not None
                assert batch.errors.data[0].code == "invalid_api_key"


async def test_a_batch_is_taken_up_by_the_next_worker(settings: Settings) -> None:
    async with served(settings, STEP_SECONDS) as service:
        key = await service.tenant("acme")
        async with client_of(service.http, key) as client:
            batch = await begin(client, LINES)
            await until_some_are_through(service)
    # Ended with lines under way: what it had recorded is not run again.
    database = open_database(settings)
    async with database.main.reading(EVERY_TENANT) as session:
        left = set(range(1, 41)) - set(await session.scalars(select(BatchResult.line)))
    await database.close()
    async with served(settings) as service:
        async with client_of(service.http, key) as client:
            batch = await ended(client, batch.id)
            assert batch.status == "completed"
            output = await lines_of(client, batch.output_file_id)
            assert [each["custom_id"] for each in output] == [str(n) for n in range(20, 60)]
        seen = service.engine.engine.seen
        assert all(count == 1 for count in seen.values())
        assert {prompt[0] - 19 for prompt in seen} <= left
        async with service.database.main.reading(EVERY_TENANT) as session:
            job = (await session.scalars(select(Job))).one()
            assert job.state == "succeeded"


@sqlite_only
async def test_who_has_lost_a_batch_writes_nothing(settings: Settings) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        service.engine.engine.go.clear()
        async with client_of(service.http, key) as client:
            batch = await begin(client, [line("a")])

            async def running() -> bool:
                return (await client.batches.retrieve(batch.id)).status == "in_progress"

            await until(running)
            async with service.database.main.reading(EVERY_TENANT) as session:
                job = (await session.scalars(select(Job))).one()
            stale = Claim(job.id, job.tenant_id, "batch", {}, "k", job.attempts - 1)
            late = BatchStore(service.database, stale, read(BATCH, batch.id))
            for write in (
                late.record([Result(1, True, b"x")]),
                late.begin(5, None),
                late.finalize(),
            ):
                with pytest.raises(JobLostError):
                    await write
            held = Claim(job.id, job.tenant_id, "batch", {}, "k", job.attempts)
            before = BatchStore(service.database, held, read(BATCH, batch.id))
            # Of the same holder, who had it kept when the lease ended: the line is run again, and kept once.
            answer = Result(1, True, b'{"custom_id": "first"}\n', Tokens(2, 0, 3))
            await before.record([answer])
            await before.record([answer, answer._replace(body=b"second")])
            service.engine.engine.go.set()
            batch = await ended(client, batch.id)
            counts = batch.request_counts
            assert counts is not None
            assert (counts.total, counts.completed, counts.failed) == (1, 1, 0)
            assert batch.usage is not None
            assert (batch.usage.input_tokens, batch.usage.output_tokens) == (2, 3)
            assert await lines_of(client, batch.output_file_id) == [{"custom_id": "first"}]


@sqlite_only
async def test_large_answers_are_read_one_by_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BYTES_AT_ONCE", 100)
    sizes = [10, 200, 60, 40, 1, 300, 300, 5]
    assert [store._taken(list(enumerate(sizes[at:], at))) for at in (0, 1, 2, 5)] == [0, 1, 3, 5]
    async with served(settings) as service:
        key = await service.tenant("acme")
        async with client_of(service.http, key) as client:
            lines = [line(str(n), max_tokens=n % 9 + 1) for n in range(20)]
            batch = await ended(client, (await begin(client, lines)).id)
            output = await lines_of(client, batch.output_file_id)
            assert [each["custom_id"] for each in output] == [str(n) for n in range(20)]


@sqlite_only
async def test_who_stores_all_that_it_may_begins_no_batch(settings: Settings) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        quota = {"storage_limit": 1000}
        url = "/api/v1/tenants/acme"
        assert (await service.http.patch(url, json=quota, headers=OPS)).status_code == 200
        async with client_of(service.http, key) as client:
            # Each line of errors is longer than its request.
            batch = await begin(client, [line(str(n), model="m") for n in range(5)])
            batch = await ended(client, batch.id)
            assert len(await lines_of(client, batch.error_file_id)) == 5
            kinds = {"endpoint": "/v1/completions", "completion_window": "24h"}
            with pytest.raises(openai.APIStatusError) as refused:
                await client.batches.create(input_file_id=batch.input_file_id, **kinds)  # type: ignore[arg-type]  # texts
            assert refused.value.status_code == 413
            assert refused.value.code == "storage_quota_exceeded"


@sqlite_only
async def test_an_input_that_goes_away_is_told(settings: Settings) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        service.engine.engine.go.clear()
        async with client_of(service.http, key) as client:
            running = [await begin(client, [line("a")]) for _ in range(2)]
            # Two of a tenant run at once; the third waits.
            batch = await begin(client, [line("a")])
            await client.files.delete(batch.input_file_id)
            service.engine.engine.go.set()
            batch = await ended(client, batch.id)
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert (batch.status, batch.errors.data[0].code) == ("failed", "file_not_found")
            for each in running:
                assert (await ended(client, each.id)).status == "completed"
