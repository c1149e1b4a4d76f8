"""The demo model behind a real server: answers and log-probabilities of concurrent requests for eight adapters and the
base equal those of transformers + PEFT, one adapter at a time."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

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

    async def ask_all() -> list[Completion]:
        async with AsyncOpenAI(
            base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0
        ) as client:
            requests = [
                client.completions.create(
                    model=BASE if choice is None else f"adapter-{choice}",
                    prompt=prompt,
                    temperature=0,
                    max_tokens=OUTPUT,
                    logprobs=1,
                    extra_body={"ignore_eos": True},
                )
                for prompt, choice in zip(prompts, choices, strict=True)
            ]
            return await asyncio.gather(*requests)

    for answer, prompt, choice in zip(asyncio.run(ask_all()), prompts, choices, strict=True):
        expected = oracle.greedy(prompt, choice, OUTPUT)
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.token_logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert answer.choices[0].text == tokenizer.decode(expected.token_ids)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), OUTPUT)
    tenant.http.close()
