"""Responses through OpenAI's client: made, streamed, stored, listed, built on, deleted, and nobody else's."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.responses import Response, ResponseOutputMessage

from loraplex.platform.settings import Settings
from support.dialects import openai_client
from support.served import Served, served
from support.services import OPERATOR, bearer, sqlite_only

TOKENS = 16  # the least; the scripted engine says the alphabet and is cut off there
SAID = "abcdefghijklmnop"
TEXT_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.incomplete",
]


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as running:
        yield running


async def test_stored_listed_built_on_and_deleted(service: Served) -> None:
    key = await service.tenant("acme")
    async with openai_client(service, key) as client:
        first = await client.responses.create(
            model="tiny", input="One", max_output_tokens=TOKENS, metadata={"a": "b"}
        )
        assert first.output_text == SAID
        assert (first.status, first.metadata) == ("incomplete", {"a": "b"})
        assert await client.responses.retrieve(first.id) == first
        second = await client.responses.create(
            model="tiny",
            input=[{"role": "user", "content": "Two"}],
            instructions="Be brief.",
            previous_response_id=first.id,
            max_output_tokens=TOKENS,
        )
        assert second.previous_response_id == first.id
        # The prompt has the whole conversation in it, and the instructions.
        assert first.usage is not None
        assert second.usage is not None
        assert second.usage.input_tokens > first.usage.input_tokens + TOKENS
        alone = await client.responses.input_tokens.count(
            model="tiny",
            instructions="Be brief.",
            input=[
                {"role": "user", "content": "One"},
                {"role": "assistant", "content": SAID},
                {"role": "user", "content": "Two"},
            ],
        )
        assert alone.input_tokens == second.usage.input_tokens
        # One item a page, so that pages follow each other.
        items = client.responses.input_items.list(second.id, order="asc", limit=1)
        assert [_said(item) async for item in items] == ["One", SAID, "Two"]
        newest = await client.responses.input_items.list(second.id, limit=2)
        assert [_said(item) for item in newest.data] == ["Two", SAID]
        assert newest.has_more
        with pytest.raises(openai.BadRequestError, match="no such item"):
            await client.responses.input_items.list(second.id, after="msg_x")
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.cancel(second.id)
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list(second.id)
        for gone in (first.id, second.id, "resp_" + "0" * 24, "resp_\0"):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="tiny", input="x", previous_response_id=gone)
            assert refused.value.code == "previous_response_not_found"
            assert refused.value.param == "previous_response_id"


def _said(item: object) -> str:
    (part,) = item.content  # type: ignore[attr-defined]  # a union of thirty kinds
    text: str = part.text
    return text


@sqlite_only
async def test_a_stream_tells_what_is_stored(service: Served) -> None:
    key = await service.tenant("acme")
    async with openai_client(service, key) as client:
        stream = await client.responses.create(
            model="tiny", input="One", max_output_tokens=TOKENS, stream=True
        )
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type for event in events]
        assert list(dict.fromkeys(kinds)) == TEXT_EVENTS
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert text == SAID
        begun, last = events[0], events[-1]
        assert begun.type == "response.created"
        assert (begun.response.status, begun.response.output) == ("in_progress", [])
        assert last.type == "response.incomplete"
        assert await client.responses.retrieve(last.response.id) == last.response
        async with client.responses.stream(
            model="tiny", input="One", max_output_tokens=TOKENS
        ) as helper:
            snapshots = [e.snapshot async for e in helper if e.type == "response.output_text.delta"]
        assert snapshots[-1] == SAID


@sqlite_only
async def test_unless_told_not_to_it_is_stored(service: Served) -> None:
    key = await service.tenant("acme")
    async with openai_client(service, key) as client:
        for stream in (False, True):
            made = await client.responses.create(
                model="tiny", input="x", store=False, max_output_tokens=TOKENS, stream=stream
            )
            if not isinstance(made, Response):
                begun, *_ = [event async for event in made]
                assert begun.type == "response.created"
                made = begun.response
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(made.id)


@sqlite_only
async def test_nothing_is_stored_where_that_is_switched_off(settings: Settings) -> None:
    changed = {f: getattr(settings, f) for f in ("data_dir", "models", "database_url")}
    async with (
        served(Settings(**changed, no_stored_responses=True)) as service,
        openai_client(service, await service.tenant("acme")) as client,
    ):
        made = await client.responses.create(model="tiny", input="x", max_output_tokens=TOKENS)
        assert made.to_dict()["store"] is False
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="tiny", input="x", store=True)
        assert refused.value.param == "store"


@sqlite_only
async def test_a_stored_response_outlives_the_server_and_is_its_tenants_alone(
    settings: Settings,
) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        async with openai_client(service, key) as client:
            made = await client.responses.create(
                model="tiny", input="One", max_output_tokens=TOKENS
            )
    async with served(settings) as service:
        async with openai_client(service, key) as client:
            assert await client.responses.retrieve(made.id) == made
            await client.responses.create(model="tiny", input="x", previous_response_id=made.id)
        confined = await service.http.post(
            "/api/v1/tenants/acme/keys", json={"adapters": ["other"]}, headers=bearer(OPERATOR)
        )
        for other in (await service.tenant("globex"), confined.json()["key"]):
            headers = bearer(other)
            for method, path in (
                ("GET", f"/v1/responses/{made.id}"),
                ("DELETE", f"/v1/responses/{made.id}"),
                ("POST", f"/v1/responses/{made.id}/cancel"),
                ("GET", f"/v1/responses/{made.id}/input_items"),
            ):
                answer = await service.http.request(method, path, headers=headers)
                assert answer.status_code == 404, (method, path)
        async with openai_client(service, await service.tenant("globex")) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="tiny", input="x", previous_response_id=made.id)
            assert refused.value.code == "previous_response_not_found"
        gone = await service.http.delete(
            "/api/v1/tenants/acme?confirm=acme", headers=bearer(OPERATOR)
        )
        assert gone.status_code == 204


@sqlite_only
async def test_ledger_limits_and_headers_are_those_of_chat(service: Served) -> None:
    key = await service.tenant("acme")
    await service.http.put(
        "/api/v1/tenants/acme/limits",
        json={"requests_per_minute": 1},
        headers=bearer(OPERATOR),
    )
    body = {"model": "tiny", "input": "x", "max_output_tokens": TOKENS}
    answer = await service.http.post("/v1/responses", json=body, headers=bearer(key))
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert float(answer.headers["x-loraplex-overhead-ms"]) > 0
    refused = await service.http.post("/v1/responses", json=body, headers=bearer(key))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    rows = await service.http.get("/api/v1/requests?tenant=acme", headers=bearer(OPERATOR))
    (row,) = rows.json()["data"]
    assert (row["endpoint"], row["answer_id"]) == ("responses", answer.json()["id"])
    assert row["output_tokens"] == TOKENS


@sqlite_only
async def test_logprobs(service: Served) -> None:
    """The scripted engine has none; that they are asked for, and where they would be, is seen all the same."""
    async with openai_client(service, await service.tenant("acme")) as client:
        for asked in ({"top_logprobs": 2}, {"include": ["message.output_text.logprobs"]}):
            made = await client.responses.create(
                model="tiny",
                input="x",
                max_output_tokens=TOKENS,
                **asked,
            )
            (message,) = made.output
            assert isinstance(message, ResponseOutputMessage)
            (part,) = message.content
            assert part.type == "output_text"
            assert part.logprobs == []
