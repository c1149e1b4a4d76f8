"""Messages through Anthropic's client: whole, streamed, counted, refused, and with which key."""

from collections.abc import AsyncIterator

import anthropic
import pytest
from anthropic.types import MessageParam

from loraplex.platform.settings import Settings
from support.dialects import anthropic_client
from support.served import Served, served
from support.services import OPERATOR, bearer, sqlite_only

ASKED: list[MessageParam] = [{"role": "user", "content": "Hello"}]
BODY: dict[str, object] = {"model": "tiny", "max_tokens": 3, "messages": ASKED}


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as running:
        yield running


@sqlite_only
async def test_whole_streamed_and_counted(service: Served) -> None:
    async with anthropic_client(service, await service.tenant("acme")) as client:
        whole = await client.messages.create(model="tiny", max_tokens=5, messages=ASKED)
        assert [block.type for block in whole.content] == ["text"]
        assert (whole.stop_reason, whole.stop_sequence) == ("max_tokens", None)
        assert whole.usage.output_tokens == 5
        counted = await client.messages.count_tokens(model="tiny", messages=ASKED)
        assert counted.input_tokens == whole.usage.input_tokens
        more = await client.messages.count_tokens(model="tiny", messages=ASKED, system="Be brief.")
        assert more.input_tokens > counted.input_tokens
        stream = await client.messages.create(
            model="tiny", max_tokens=5, messages=ASKED, stream=True
        )
        kinds = [event.type async for event in stream]
        assert list(dict.fromkeys(kinds)) == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        async with client.messages.stream(model="tiny", max_tokens=5, messages=ASKED) as helper:
            final = await helper.get_final_message()
        assert final.content[0].text == whole.content[0].text == "abcde"  # type: ignore[union-attr]
        assert final.usage == whole.usage
        assert final.stop_reason == "max_tokens"
    rows = await service.http.get("/api/v1/requests?tenant=acme", headers=bearer(OPERATOR))
    found = [row for row in rows.json()["data"] if row["answer_id"] == whole.id]
    assert [(row["endpoint"], row["output_tokens"]) for row in found] == [("messages", 5)]


@sqlite_only
async def test_errors_have_anthropics_shape(service: Served) -> None:
    key = await service.tenant("acme")
    async with anthropic_client(service, key) as client:
        with pytest.raises(anthropic.NotFoundError) as absent:
            await client.messages.create(model="absent", max_tokens=5, messages=ASKED)
        assert absent.value.type == "not_found_error"
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await client.messages.create(model="tiny", max_tokens=0, messages=ASKED)
    async with anthropic_client(service, "wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await client.messages.create(model="tiny", max_tokens=5, messages=ASKED)
        assert unknown.value.type == "authentication_error"
    operators = await service.http.post("/v1/messages", json=BODY, headers={"x-api-key": OPERATOR})
    assert (operators.status_code, operators.json()["error"]["type"]) == (403, "permission_error")
    await service.http.put(
        "/api/v1/tenants/acme/limits", json={"requests_per_minute": 1}, headers=bearer(OPERATOR)
    )
    async with anthropic_client(service, key) as client:
        await client.messages.create(model="tiny", max_tokens=5, messages=ASKED)
        with pytest.raises(anthropic.RateLimitError) as limited:
            await client.messages.create(model="tiny", max_tokens=5, messages=ASKED)
        assert limited.value.type == "rate_limit_error"
        assert float(limited.value.response.headers["retry-after"]) > 0
    answer = await service.http.post("/v1/messages", json={}, headers=bearer(key))
    error = answer.json()
    assert answer.status_code == 400
    assert (error["type"], error["request_id"]) == ("error", answer.headers["x-request-id"])
    assert error["error"] == {"type": "invalid_request_error", "message": "model is missing."}


@sqlite_only
async def test_one_key_in_one_header_or_the_same_in_both(service: Served) -> None:
    key, other = await service.tenant("acme"), await service.tenant("globex")
    for headers in ({"x-api-key": key}, bearer(key), {"x-api-key": key, **bearer(key)}):
        answer = await service.http.post("/v1/messages", json=BODY, headers=headers)
        assert answer.status_code == 200, headers
        own = await service.http.post("/t/acme/v1/messages", json=BODY, headers=headers)
        assert own.status_code == 200
    for both in ({"x-api-key": key, **bearer(other)}, {"x-api-key": "", **bearer("no")}):
        answer = await service.http.post("/v1/messages", json=BODY, headers=both)
        assert answer.status_code == (400 if both["x-api-key"] else 401)
    foreign = await service.http.post(
        "/t/globex/v1/messages", json=BODY, headers={"x-api-key": key}
    )
    assert foreign.status_code == 404
    # Nowhere else: OpenAI's clients send no such header, proxies might.
    plain = await service.http.get("/v1/models", headers={"x-api-key": key})
    assert plain.status_code == 401
    kept = await service.http.get("/v1/models", headers={"x-api-key": other, **bearer(key)})
    assert kept.status_code == 200
