"""The OpenAI Python client, unchanged, against a real server with two tenants and their adapters."""

import asyncio
import concurrent.futures
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from loraplex.engine.tokenizer import Tokenizer
from support.serve import Tenant

pytestmark = pytest.mark.e2e

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say something."}]


def sync_client(tenant: Tenant, *, strict: bool = True) -> OpenAI:
    """Not strict for streamed completions: the client's types deny the null `finish_reason` OpenAI itself sends."""
    return OpenAI(
        base_url=f"{tenant.url}/v1",
        api_key=tenant.key,
        max_retries=0,
        _strict_response_validation=strict,
    )


def complete(client: OpenAI, model: str, tokens: int = 24) -> str:
    answer = client.completions.create(
        model=model,
        prompt="Hello",
        temperature=0,
        max_tokens=tokens,
        extra_body={"ignore_eos": True},
    )
    return answer.choices[0].text


def test_models_are_the_base_and_the_tenants_own(acme: Tenant, globex: Tenant) -> None:
    with sync_client(acme) as client:
        assert [model.id for model in client.models.list()] == [
            "org/tiny",
            "one",
            "one@canary",
            "zero",
        ]
        assert client.models.retrieve("org/tiny").id == "org/tiny"
        version = client.models.retrieve("one@1")
        assert (version.id, version.owned_by) == ("one@1", "acme")
        assert client.models.retrieve("one@canary").id == "one@canary"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("two")
    with sync_client(globex) as client:
        assert [model.id for model in client.models.list()] == ["org/tiny", "three", "two"]


def test_every_adapter_answers_in_its_own_way_whatever_runs_beside_it(
    acme: Tenant, globex: Tenant
) -> None:
    names = [
        (acme, "org/tiny"),
        (acme, "zero"),
        (acme, "one@canary"),
        (globex, "two"),
        (globex, "three@1"),
    ]
    clients = {tenant.name: sync_client(tenant) for tenant in (acme, globex)}
    alone = [complete(clients[tenant.name], model) for tenant, model in names]
    assert len(set(alone)) == len(names)
    with concurrent.futures.ThreadPoolExecutor(len(names)) as threads:
        together = list(
            threads.map(lambda name: complete(clients[name[0].name], name[1]), names * 2)
        )
    assert together == alone * 2
    for client in clients.values():
        client.close()


def test_stream_and_whole_completion_are_equal(acme: Tenant) -> None:
    with sync_client(acme, strict=False) as client:
        for n in (1, 3):
            whole = client.completions.create(
                model="one", prompt=["Hi", "Ho"], n=n, seed=3, max_tokens=20
            )
            stream = client.completions.create(
                model="one",
                prompt=["Hi", "Ho"],
                n=n,
                seed=3,
                max_tokens=20,
                stream=True,
                stream_options={"include_usage": True},
            )
            texts = [""] * (2 * n)
            reasons: list[str | None] = [None] * (2 * n)
            usage = None
            for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    assert reasons[choice.index] is None  # nothing comes after the finish
                    texts[choice.index] += choice.text
                    reasons[choice.index] = choice.finish_reason
            assert texts == [choice.text for choice in whole.choices]
            assert reasons == [choice.finish_reason for choice in whole.choices]
            assert usage is not None
            assert whole.usage is not None
            assert usage.completion_tokens == whole.usage.completion_tokens
            assert usage.prompt_tokens == whole.usage.prompt_tokens == 2 * 3


def test_derived_seeds_give_different_answers_and_the_same_ones_again(acme: Tenant) -> None:
    with sync_client(acme) as client:
        first, second = (
            [
                c.text
                for c in client.completions.create(
                    model="zero", prompt="Hi", n=4, seed=9, max_tokens=12
                ).choices
            ]
            for _ in range(2)
        )
    assert first == second
    assert len(set(first)) == 4


def test_chat_stream_begins_with_the_role_and_ends_with_the_usage(acme: Tenant) -> None:
    with sync_client(acme) as client:
        whole = client.chat.completions.create(
            model="zero", messages=MESSAGES, temperature=0, max_tokens=16
        )
        chunks = list(
            client.chat.completions.create(
                model="zero",
                messages=MESSAGES,
                temperature=0,
                max_tokens=16,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def test_chat_logprobs(acme: Tenant) -> None:
    with sync_client(acme) as client:
        answer = client.chat.completions.create(
            model="zero",
            messages=MESSAGES,
            temperature=0,
            max_tokens=6,
            logprobs=True,
            top_logprobs=3,
        )
    assert answer.choices[0].logprobs is not None
    assert answer.usage is not None
    content = answer.choices[0].logprobs.content or []
    assert len(content) == answer.usage.completion_tokens
    for entry in content:
        assert len(entry.top_logprobs) == 3
        # Greedy: the chosen token is the likeliest.
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert entry.bytes is None or bytes(entry.bytes).decode() == entry.token


def test_completion_logprobs_and_offsets(acme: Tenant) -> None:
    with sync_client(acme, strict=False) as client:
        request = {
            "model": "zero",
            "prompt": "Hello",
            "temperature": 0,
            "max_tokens": 12,
            "logprobs": 2,
        }
        choice = client.completions.create(**request).choices[0]  # type: ignore[call-overload]  # a dict
        chunks = list(client.completions.create(**request, stream=True))  # type: ignore[call-overload]  # a dict
    whole = choice.logprobs
    assert (
        len(whole.tokens)
        == len(whole.token_logprobs)
        == len(whole.text_offset)
        == len(whole.top_logprobs)
    )
    assert whole.text_offset == sorted(whole.text_offset)
    for token, at in zip(whole.tokens, whole.text_offset, strict=True):
        # A piece of a character is named by its bytes.
        assert token.startswith("bytes:") or choice.text.startswith(token, at)
    assert all(2 <= len(top) <= 3 or "\ufffd" in top for top in whole.top_logprobs)
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [token for part in parts for token in part.tokens] == whole.tokens
    assert [offset for part in parts for offset in part.text_offset] == whole.text_offset


def test_echo_puts_the_prompt_in_front(acme: Tenant, model: Path) -> None:
    with sync_client(acme, strict=False) as client:
        request = {"model": "zero", "temperature": 0, "max_tokens": 8}
        plain = client.completions.create(prompt="Hello", **request).choices[0].text  # type: ignore[call-overload]  # a dict
        echoed = client.completions.create(prompt="Hello", echo=True, **request).choices[0].text  # type: ignore[call-overload]  # a dict
        assert echoed == "Hello" + plain
        chunks = client.completions.create(prompt="Hello", echo=True, stream=True, **request)  # type: ignore[call-overload]  # a dict
        assert "".join(chunk.choices[0].text for chunk in chunks) == echoed
        ids = Tokenizer.from_directory(model).encode("Hello", add_special_tokens=False)
        by_ids = client.completions.create(prompt=ids, echo=True, **request)  # type: ignore[call-overload]  # a dict
        assert by_ids.choices[0].text.startswith("Hello")


def test_stop_strings_end_the_text_in_front_of_them(acme: Tenant) -> None:
    with sync_client(acme) as client:
        free = complete(client, "zero")
        stop = free[8:10]
        answer = client.completions.create(
            model="zero", prompt="Hello", temperature=0, max_tokens=24, stop=[stop]
        )
        assert answer.choices[0].text == free[: free.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_the_tenants_own_base_url(acme: Tenant) -> None:
    with OpenAI(base_url=f"{acme.url}/t/acme/v1", api_key=acme.key, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [
            "org/tiny",
            "one",
            "one@canary",
            "zero",
        ]
        assert complete(client, "zero")
    with (
        OpenAI(base_url=f"{acme.url}/t/globex/v1", api_key=acme.key, max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.models.list()


async def test_async_clients_of_two_tenants_stream_side_by_side(
    acme: Tenant, globex: Tenant
) -> None:
    async def stream(tenant: Tenant, model: str) -> str:
        async with AsyncOpenAI(
            base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0
        ) as client:
            parts = await client.completions.create(
                model=model, prompt="Hello", temperature=0, max_tokens=24, stream=True
            )
            return "".join([chunk.choices[0].text async for chunk in parts])

    wanted = [(acme, "zero"), (globex, "two"), (acme, "one"), (globex, "three")]
    texts = await asyncio.gather(*(stream(*pair) for pair in wanted * 2))
    assert texts[:4] == texts[4:]
    assert len(set(texts)) == 4


def test_another_tenants_adapter_looks_like_one_that_does_not_exist(acme: Tenant) -> None:
    foreign = acme.complete(model="three", prompt="x")
    absent = acme.complete(model="thrxx", prompt="x")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json() == {
        "error": {**absent.json()["error"], "message": foreign.json()["error"]["message"]}
    }
    assert (
        foreign.json()["error"]["message"].replace("three", "thrxx")
        == absent.json()["error"]["message"]
    )
    assert foreign.json()["error"]["code"] == "model_not_found"
