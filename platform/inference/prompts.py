"""Owns the `prompt` field of completions: text or token ids, one or many."""

import asyncio
from typing import NamedTuple

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.errors import BadRequestError

PromptField = str | list[str | int | list[int]] | None

MAX_JOBS = 1024
# More text is encoded in a thread: the tokenizer works outside Python's lock, and everybody else's tokens wait for the
# event loop.
THREAD_CHARACTERS = 20_000
# Each call has a price of its own.
CHARACTERS_PER_CALL = 100
# No text of a language has so few tokens that more characters than this would fit one.
CHARACTERS_PER_TOKEN = 32


class Prompt(NamedTuple):
    """A prompt as token ids, and its text if it is to be echoed."""

    ids: tuple[int, ...]
    text: str


async def read_prompts(
    field: PromptField, model: BaseModel, *, echo: bool, n: int, context: int | None
) -> list[Prompt]:
    """Every prompt of a request that wants `n` answers to each; `context` is the model's, in tokens, if it is known.

    Raises:
        BadRequestError: empty, mixed kinds, too many, too long, or text for a model without a tokenizer.
    """
    texts, lists = _items(field, model)
    if (count := len(texts) + len(lists)) * n > MAX_JOBS:
        raise BadRequestError(
            f"{count} prompts with n={n} are more than {MAX_JOBS} answers; send several requests.",
            param="prompt",
        )
    check_length(max(map(len, lists), default=0), context)
    if texts:
        ids = await encode(tokenizer_of(model), texts, special=True, context=context)
        return [Prompt(tuple(own), text) for own, text in zip(ids, texts, strict=True)]
    return [Prompt(tuple(item), tokenizer_of(model).decode(item) if echo else "") for item in lists]


async def encode(
    tokenizer: Tokenizer, texts: list[str], *, special: bool, context: int | None
) -> list[list[int]]:
    """Token ids of each text, with the tokenizer's own beginning and end marks if `special`.

    Raises:
        BadRequestError: one has more characters or tokens than `context` tokens can hold.
    """
    longest = max(map(len, texts))
    if context is not None and longest > CHARACTERS_PER_TOKEN * context:
        raise _too_long(context, f"{longest} characters")
    if sum(map(len, texts)) + CHARACTERS_PER_CALL * len(texts) < THREAD_CHARACTERS:
        ids = [tokenizer.encode(text, add_special_tokens=special) for text in texts]
    else:
        ids = await asyncio.to_thread(tokenizer.encode_batch, texts, add_special_tokens=special)
    check_length(max(map(len, ids)), context)
    return ids


def check_length(tokens: int, context: int | None) -> None:
    """The engine judges lengths exactly; this spares it from reading what is far too long.

    Raises:
        BadRequestError: there is no room for an answer after `tokens` tokens.
    """
    if context is not None and context <= tokens:
        raise _too_long(context, str(tokens))


def _too_long(context: int, length: str) -> BadRequestError:
    return BadRequestError(
        f"This model's context length is {context} tokens; the prompt alone has {length}.",
        param="prompt",
        code="context_length_exceeded",
    )


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


def _items(field: PromptField, model: BaseModel) -> tuple[list[str], list[list[int]]]:
    """Texts or token lists; one of the two is empty."""
    if field is None:
        # OpenAI's default is the token that begins a document.
        if model.config.bos_token_id is None:
            raise BadRequestError(
                "prompt is missing.", param="prompt", code="missing_required_parameter"
            )
        return [], [[model.config.bos_token_id]]
    if isinstance(field, str):
        return [field], []
    texts = [item for item in field if isinstance(item, str)]
    ids = [item for item in field if isinstance(item, int)]
    lists = [item for item in field if isinstance(item, list)]
    if not field or any(not item for item in lists):
        raise BadRequestError(
            "prompt: an empty list is no prompt.", param="prompt", code="invalid_value"
        )
    if len(texts) == len(field):
        return texts, []
    if len(ids) == len(field):
        return [], [ids]
    if len(lists) == len(field):
        return [], lists
    raise BadRequestError(
        "prompt: a list holds either texts, or token ids, or lists of token ids, not a mixture.",
        param="prompt",
        code="invalid_value",
    )
