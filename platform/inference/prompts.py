"""Owns the `prompt` field of completions: text or token ids, one or many."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.errors import BadRequestError

PromptField = str | list[str | int | list[int]] | None

# Longer texts are encoded in a thread: the tokenizer works outside Python's lock, and everybody else's tokens wait
# for the event loop.
THREAD_CHARACTERS = 20_000


class Prompt(NamedTuple):
    """A prompt as token ids, and its text if it is to be echoed."""

    ids: tuple[int, ...]
    text: str


async def read_prompts(field: PromptField, model: BaseModel, *, echo: bool) -> list[Prompt]:
    """Every prompt of a request.

    Raises:
        BadRequestError: empty, mixed kinds, or text for a model without a tokenizer.
    """
    prompts = []
    for item in _items(field, model):
        if isinstance(item, str):
            prompts.append(Prompt(await encode(tokenizer_of(model), item, special=True), item))
        else:
            text = tokenizer_of(model).decode(list(item)) if echo else ""
            prompts.append(Prompt(tuple(item), text))
    return prompts


async def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> tuple[int, ...]:
    """Token ids of a text, with the tokenizer's own beginning and end marks if `special`."""
    if len(text) < THREAD_CHARACTERS:
        return tuple(tokenizer.encode(text, add_special_tokens=special))
    return tuple(await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=special))


def tokenizer_of(model: BaseModel) -> Tokenizer:
    """The model's tokenizer.

    Raises:
        BadRequestError: it has none.
    """
    if model.tokenizer is None:
        raise BadRequestError(
            f"{model.name!r} has no tokenizer; send the prompt as token ids to /v1/completions.",
            param="prompt",
        )
    return model.tokenizer


def _items(field: PromptField, model: BaseModel) -> Sequence[str | list[int]]:
    if field is None:
        # OpenAI's default is the token that begins a document.
        if model.config.bos_token_id is None:
            raise BadRequestError(
                "prompt is missing.", param="prompt", code="missing_required_parameter"
            )
        return [[model.config.bos_token_id]]
    if isinstance(field, str):
        return [field]
    texts = [item for item in field if isinstance(item, str)]
    ids = [item for item in field if isinstance(item, int)]
    lists = [item for item in field if isinstance(item, list)]
    if not field or any(not item for item in lists):
        raise BadRequestError(
            "prompt: an empty list is no prompt.", param="prompt", code="invalid_value"
        )
    if len(texts) == len(field):
        return texts
    if len(ids) == len(field):
        return [ids]
    if len(lists) == len(field):
        return lists
    raise BadRequestError(
        "prompt: a list holds either texts, or token ids, or lists of token ids, not a mixture.",
        param="prompt",
        code="invalid_value",
    )
