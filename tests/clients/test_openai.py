"""OpenAI's own client against a served adapter, where the other tests leave gaps: its stream helpers, raw answers and
headers, how it retries and how it gives up."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

# Far more than is generated before somebody leaves.
LONG = 3000
RETRIES = 50


class Verdict(BaseModel):
    fits: bool


def said(word: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": word}]


@pytest.fixture
def client(tenant: Tenant) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0) as client:
        yield client


def long_stream(client: OpenAI, model: str) -> openai.Stream[openai.types.Completion]:
    """A completion that has begun and goes on."""
    stream = client.completions.create(
        model=model,
        prompt="a ->",
        max_tokens=LONG,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(stream)
    return stream


def test_the_stream_helper_and_raw_answers(
    client: OpenAI, words: list[str], answers: list[str]
) -> None:
    question = {"model": "cipher@1", "messages": said(words[0]), "temperature": 0, "stop": "\n"}
    with client.chat.completions.stream(**question) as stream:  # type: ignore[arg-type]  # a dict
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas).strip() == answers[0]
    assert len(deltas) > 2
    assert [event.content for event in events if event.type == "content.done"] == ["".join(deltas)]
    assert final.choices[0].message.content == "".join(deltas)
    raw = client.chat.completions.with_raw_response.create(**question)  # type: ignore[call-overload]  # a dict
    assert raw.headers["x-loraplex-version"] == "cipher@1"
    assert raw.headers["x-request-id"] == raw.parse()._request_id
    assert raw.parse().choices[0].message.content.strip() == answers[0]
    with client.chat.completions.with_streaming_response.create(  # type: ignore[call-overload]  # a dict
        **question, stream=True
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)


async def test_the_same_from_an_event_loop(
    tenant: Tenant, words: list[str], answers: list[str]
) -> None:
    async with AsyncOpenAI(
        base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0
    ) as client:
        async with client.chat.completions.stream(
            model="cipher", messages=said(words[1]), temperature=0, stop="\n"
        ) as stream:
            final = await stream.get_final_completion()
        assert (final.choices[0].message.content or "").strip() == answers[1]
        parsed = await client.chat.completions.parse(
            model="caller", messages=said("Does it fit?"), response_format=Verdict, max_tokens=64
        )
        assert isinstance(parsed.choices[0].message.parsed, Verdict)
        old = await client.beta.chat.completions.parse(
            model="caller", messages=said("Does it fit?"), response_format=Verdict, max_tokens=64
        )
        assert isinstance(old.choices[0].message.parsed, Verdict)
        assert (await anext(aiter(client.models.list()))).id == "demo-base"
        vectors = await client.embeddings.create(model="cipher", input=words)
        assert [item.index for item in vectors.data] == [0, 1, 2]


class Asking(NamedTuple):
    """A client that tries again, and when its requests were answered how."""

    client: OpenAI
    answered: list[tuple[float, httpx2.Response]]


@contextmanager
def asking(tenant: Tenant, then: Callable[[], object] = lambda: None) -> Iterator[Asking]:
    """`then` is called at each answer."""
    answered: list[tuple[float, httpx2.Response]] = []

    def note(response: httpx2.Response) -> None:
        answered.append((time.monotonic(), response))
        then()

    http = openai.DefaultHttpxClient(event_hooks={"response": [note]})
    with OpenAI(
        base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=RETRIES, http_client=http
    ) as client:
        yield Asking(client, answered)


def limited(server: Serve, name: str, **limits: int) -> Tenant:
    """A tenant with limits."""
    tenant = server.tenant(name)
    answer = server.operator.put(f"/api/v1/tenants/{name}/limits", json=limits)
    assert answer.status_code == 200, answer.text
    return tenant


def test_it_tries_again_after_as_long_as_it_is_told(server: Serve) -> None:
    tenant = limited(server, "one-at-a-time", max_concurrent=1)
    with OpenAI(base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0) as first:
        stream = long_stream(first, server.base)
        with asking(tenant, stream.close) as (client, answered):
            client.completions.create(model=server.base, prompt="a ->", max_tokens=4)
    *refused, (_, last) = answered
    assert last.status_code == 200
    assert refused
    for (at, response), (after, _) in itertools.pairwise(answered):
        assert response.status_code == 429
        assert after - at >= int(response.headers["retry-after-ms"]) / 1000 > 0


def test_it_does_not_try_again_when_the_budget_is_used_up(server: Serve) -> None:
    tenant = limited(server, "poor", tokens_per_month=10)
    with asking(tenant) as (client, answered), pytest.raises(openai.RateLimitError) as refused:
        client.completions.create(model=server.base, prompt="a ->", max_tokens=50)
    assert refused.value.code == "insufficient_quota"
    assert len(answered) == 1


def test_it_gives_up_in_time_and_the_answer_ends(server: Serve, client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).completions.create(
            model="cipher", prompt="a ->", max_tokens=LONG, extra_body={"ignore_eos": True}
        )
    server.wait(server.is_idle)
    assert client.completions.create(model="cipher", prompt="a ->", max_tokens=2).choices
