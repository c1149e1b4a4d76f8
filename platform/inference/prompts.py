"""Owns the `prompt` field of completions: text or token ids, one or many."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, cast

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.fill_in import continued, gap_of

PromptField = str | list[str | int | list[int]] | None

MAX_JOBS = 1024
# OpenAI's default prompt, for models without a token that begins texts.
BEGIN_OF_DOCUMENT = "<|endoftext|>"
# More text is encoded in a thread: the tokenizer works outside Python's lock, and everybody else's tokens wait for the
# event loop.
THREAD_CHARACTERS = 20_000
# More ids are turned to text in a thread.
THREAD_TOKENS = 5_000
# Each call has a price of its own.
CHARACTERS_PER_CALL = 100
# No text of a language has so few tokens that more characters than this would fit one.
CHARACTERS_PER_TOKEN = 32


class Prompt(NamedTuple):
    """A prompt as token ids, and its text if it is to be echoed."""

    ids: tuple[int, ...]
    text: str


async def read_prompts(
    field: PromptField,
    model: BaseModel,
    *,
    echo: bool,
    n: int,
    context: int | None,
    special: bool = True,
    least: int = 1,
) -> list[Prompt]:
    """Every prompt of a request.

    Args:
        echo: whether their texts are wanted.
        n: generations that each begins.
        context: the model's, in tokens, if it is known.
        special: whether texts get the tokenizer's own beginning and end marks.
        least: tokens of the shortest answer there must be room for.

    Raises:
        BadRequestError: empty, mixed kinds, too many, too long, or text for a model without a tokenizer.
    """
    texts, lists = _items(field, model)
    _check_count(len(texts) + len(lists), n)
    check_length(max(map(len, lists), default=0), context, least)
    if texts:
        ids = await encode(
            tokenizer_of(model), texts, special=special, context=context, least=least
        )
        return [Prompt(tuple(own), text) for own, text in zip(ids, texts, strict=True)]
    if not echo:
        return [Prompt(tuple(item), "") for item in lists]
    tokenizer = tokenizer_of(model)
    if sum(map(len, lists)) > THREAD_TOKENS:
        told = await asyncio.to_thread(_texts, tokenizer, lists)
    else:
        told = _texts(tokenizer, lists)
    return [Prompt(tuple(item), text) for item, text in zip(lists, told, strict=True)]


async def read_gaps(
    field: PromptField, suffix: str, model: BaseModel, *, n: int, context: int | None
) -> list[Prompt]:
    """Every prompt of a request that wants what stands between each of its texts and a suffix.

    Raises:
        BadRequestError: as `read_prompts`, or the model cannot fill gaps, or the prompts are no texts.
    """
    tokenizer = tokenizer_of(model)
    gap = gap_of(tokenizer)
    texts, lists = ([""], []) if field is None else _items(field, model)
    if lists:
        raise BadRequestError(
            "suffix needs the prompt as text, not as token ids.",
            param="prompt",
            code="unsupported_value",
        )
    _check_count(len(texts), n)
    ends, *begins = await encode(tokenizer, [suffix, *texts], special=False, context=context)
    ends = continued(tokenizer, suffix)
    prompts = [Prompt(tuple(gap.around(ids, ends)), "") for ids in begins]
    check_length(max(len(prompt.ids) for prompt in prompts), context)
    return prompts


async def encode(
    tokenizer: Tokenizer,
    texts: list[str],
    *,
    special: bool,
    context: int | None,
    least: int = 1,
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
    check_length(max(map(len, ids)), context, least)
    return ids


def check_length(tokens: int, context: int | None, least: int = 1) -> None:
    """The engine judges lengths exactly; this spares it from reading what is far too long.

    Raises:
        BadRequestError: there is no room for an answer of `least` tokens after `tokens` tokens.
    """
    if context is not None and context < tokens + least:
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


def _texts(tokenizer: Tokenizer, lists: Sequence[list[int]]) -> list[str]:
    return [tokenizer.decode(item) for item in lists]


def _check_count(prompts: int, n: int) -> None:
    if prompts * n > MAX_JOBS:
        raise BadRequestError(
            f"{prompts} prompts with {n} answers each are more than {MAX_JOBS}; send several requests.",
            param="prompt",
        )


def _items(field: PromptField, model: BaseModel) -> tuple[list[str], list[list[int]]]:
    """Texts or token lists; one of the two is empty."""
    if field is None:
        # OpenAI's default is the token that begins a document.
        begin = model.config.bos_token_id
        if begin is None and model.tokenizer is not None:
            begin = model.tokenizer.token_id(BEGIN_OF_DOCUMENT)
        if begin is None:
            raise BadRequestError(
                "prompt is missing.", param="prompt", code="missing_required_parameter"
            )
        return [], [[begin]]
    if isinstance(field, str):
        return [field], []
    kinds = set(map(type, field))
    if not field or (kinds == {list} and not all(field)):
        raise BadRequestError(
            "prompt: an empty list is no prompt.", param="prompt", code="invalid_value"
        )
    # Cast: there may be a million ids, and to look at each once more takes as long as to read them.
    if kinds == {str}:
        return cast("list[str]", field), []
    if kinds == {int}:
        return [], [cast("list[int]", field)]
    if kinds == {list}:
        return [], cast("list[list[int]]", field)
    raise BadRequestError(
        "prompt: a list holds either texts, or token ids, or lists of token ids, not a mixture.",
        param="prompt",
        code="invalid_value",
    )
