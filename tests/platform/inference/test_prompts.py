"""Prompts are judged before they cost anything, and encoded without holding up the event loop."""

import asyncio
import time
from pathlib import Path

import pytest

from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.prompts import PromptField, encode, read_prompts, tokenizer_of


@pytest.fixture(scope="module")
def model(base_dir: Path) -> BaseModel:
    return BaseModel.load("tiny", base_dir)


async def refusal(field: PromptField, model: BaseModel, n: int, context: int) -> BadRequestError:
    started = time.process_time()
    with pytest.raises(BadRequestError) as caught:
        await read_prompts(field, model, echo=True, n=n, context=context)
    assert time.process_time() - started < 0.1
    return caught.value


async def test_too_many_or_too_long_prompts_are_refused_before_they_are_encoded(
    model: BaseModel,
) -> None:
    long = "abc def " * 900
    many = await refusal([long] * 1024, model, 2, 10_000)
    assert many.message.startswith("1024 prompts with 2 answers each are more than 1024")
    text = await refusal("a" * 8_000_000, model, 1, 10_000)
    assert (text.code, text.param) == ("context_length_exceeded", "prompt")
    assert text.message.endswith("the prompt alone has 8000000 characters.")
    ids = await refusal([[1, 2], [5] * 1_000_000], model, 1, 10_000)
    assert (ids.code, ids.param) == ("context_length_exceeded", "prompt")


async def test_a_prompt_that_leaves_no_room_is_refused(model: BaseModel) -> None:
    error = await refusal("x" * 50, model, 1, 50)
    assert error.message == "This model's context length is 50 tokens; the prompt alone has 51."


async def test_many_texts_are_encoded_as_each_alone_while_others_go_on(model: BaseModel) -> None:
    texts = [f"{n} " + "abc def " * 900 for n in range(100)]
    tokenizer = tokenizer_of(model)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    prompts = await read_prompts(list(texts), model, echo=False, n=1, context=None)
    task.cancel()
    assert turns > 10
    assert [prompt.text for prompt in prompts] == texts
    assert prompts[7].ids == tuple(tokenizer.encode(texts[7]))
    bare = await encode(tokenizer, texts, special=False, context=None)
    assert bare[7] == tokenizer.encode(texts[7], add_special_tokens=False)
