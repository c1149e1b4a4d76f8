"""The demo model behind a real server: answers and log-probabilities (of prompts too) of concurrent requests for eight
adapters and the base, streamed or not, equal those of transformers + PEFT, one adapter at a time."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from openai import AsyncOpenAI
from openai.types import Completion

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.demo.model_dir import demo_model_dir
from support.checkpoints import peft_adapter
from support.oracle import Oracle, adapter_options
from support.serve import Serve

pytestmark = pytest.mark.e2e

OUTPUT = 16
BASE = "demo"


class Answer(NamedTuple):
    """A completion, put together if it was streamed."""

    text: str
    logprobs: list[float | None]
    prompt_tokens: int
    output_tokens: int


def gather(*chunks: Completion) -> Answer:
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    logprobs: list[float | None] = [
        entry
        for choice in choices
        if choice.logprobs is not None
        for entry in choice.logprobs.token_logprobs or ()
    ]
    usage = chunks[-1].usage
    assert usage is not None
    text = "".join(choice.text for choice in choices)
    return Answer(text, logprobs, usage.prompt_tokens, usage.completion_tokens)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [
        peft_adapter(demo_model_dir(), folder / str(index), seed=index, **options)
        for index, options in enumerate(adapter_options(tied=True))
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(demo_model_dir(), tmp_path_factory.mktemp("data"), name=BASE) as serve:
        yield serve


def test_answers_over_http_equal_the_oracle(server: Serve, adapters: list[Path]) -> None:
    tenant = server.tenant("oracle")
    for index, path in enumerate(adapters):
        assert tenant.push(f"adapter-{index}", path).status_code == 201
    oracle = Oracle(demo_model_dir(), adapters)
    tokenizer = Tokenizer.from_directory(demo_model_dir())
    rng = random.Random(0)
    choices = [None, *range(len(adapters))] * 2
    rng.shuffle(choices)
    prompts = [[rng.randrange(3, 250) for _ in range(rng.randint(2, 40))] for _ in choices]

    async def ask(client: AsyncOpenAI, at: int) -> Answer:
        choice = choices[at]
        request = {
            "model": BASE if choice is None else f"adapter-{choice}",
            "prompt": prompts[at],
            "temperature": 0,
            "max_tokens": OUTPUT,
            "logprobs": 1,
            # The others' prompts may come from the prefix cache.
            "echo": at % 3 > 0,
            "extra_body": {"ignore_eos": True},
        }
        if at % 2:
            return gather(await client.completions.create(**request))  # type: ignore[call-overload]  # a dict
        usage = {"include_usage": True}
        stream = await client.completions.create(**request, stream=True, stream_options=usage)  # type: ignore[call-overload]  # a dict
        return gather(*[chunk async for chunk in stream])

    async def ask_all() -> list[Answer]:
        async with AsyncOpenAI(
            base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0
        ) as client:
            return await asyncio.gather(*(ask(client, at) for at in range(len(prompts))))

    for at, answer in enumerate(asyncio.run(ask_all())):
        prompt, choice = prompts[at], choices[at]
        expected = oracle.greedy(prompt, choice, OUTPUT)
        logprobs, text = expected.logprobs, tokenizer.decode(expected.token_ids)
        if at % 3:
            rows = oracle.logprobs(prompt, choice)
            of_prompt = [float(row[token]) for row, token in zip(rows, prompt[1:], strict=False)]
            assert answer.logprobs[0] is None
            logprobs = [*of_prompt, *logprobs]
            text = tokenizer.decode(prompt) + text
            del answer.logprobs[0]
        assert answer.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert answer.text == text
        assert (answer.prompt_tokens, answer.output_tokens) == (len(prompt), OUTPUT)
    tenant.http.close()
