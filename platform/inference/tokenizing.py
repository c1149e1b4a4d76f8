"""Owns /tokenize and /detokenize: their bodies, which are vLLM's, and what is done with them. Nothing runs on an
engine; to limits and the ledger they are requests of no tokens."""

import asyncio
from typing import Annotated

import msgspec

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.auth.principal import Principal
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.checks import check_chat
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.prompts import encode, tokenizer_of
from loraplex.platform.inference.schemas import (
    MAX_MESSAGES,
    ChatRequest,
    CompletionRequest,
    Message,
    TokenId,
)
from loraplex.platform.inference.service import InferenceService

# Nobody pays for these tokens, so it must stay cheap: a million characters take half a second of one processor.
MAX_CHARACTERS = 1_000_000
MAX_TOKENS = 250_000
# More ids are turned to text in a thread.
THREAD_TOKENS = 5_000

# What only conversations have.
CHAT_FIELDS = (
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
)


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either a prompt, or a conversation; special tokens are added to a prompt unless told otherwise."""

    model: str
    prompt: str | None = None
    messages: (
        Annotated[list[Message], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)] | None
    ) = None
    tools: list[msgspec.Raw] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, bool | int | float | str | None] | None = None
    return_token_strs: bool | None = None


class Tokenized(msgspec.Struct):
    """`max_model_len` is 0 while no engine has told."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    tokens: Annotated[list[TokenId], msgspec.Meta(max_length=MAX_TOKENS)]


class Detokenized(msgspec.Struct):
    prompt: str


async def tokenize(
    inference: InferenceService, principal: Principal, request: TokenizeRequest, costs: Costs
) -> Tokenized:
    """The token ids that a completion or a chat would begin with.

    Raises:
        PlatformError: the model or the text cannot be read.
    """
    asked = _of_prompt(request) if request.messages is None else _of_messages(request)
    target = await inference.target(principal, asked, costs)
    async with inference.without_engine(principal, target, "tokenize", costs):
        if isinstance(asked, ChatRequest):
            text, special = (await inference.prompt_of(target, asked)).text, False
        else:
            text, special = request.prompt or "", True
        if len(text) > MAX_CHARACTERS:
            param = "prompt" if request.messages is None else "messages"
            raise BadRequestError(
                f"{param}: the text has {len(text)} characters; at most {MAX_CHARACTERS} are tokenized at once.",
                param=param,
                code="invalid_value",
            )
        if request.add_special_tokens is not None:
            special = request.add_special_tokens
        tokenizer = tokenizer_of(target.base.model)
        (ids,) = await encode(tokenizer, [text], special=special, context=None)
        names = None
        if request.return_token_strs:
            names = await asyncio.to_thread(tokenizer.names, ids)
        return Tokenized(len(ids), target.context or 0, ids, names)


async def detokenize(
    inference: InferenceService, principal: Principal, request: DetokenizeRequest, costs: Costs
) -> Detokenized:
    """The text of token ids, special tokens included.

    Raises:
        PlatformError: the model cannot be found, or has no such tokens.
    """
    target = await inference.target(principal, CompletionRequest(model=request.model), costs)
    model = target.base.model
    tokenizer = tokenizer_of(model)
    if request.tokens and max(request.tokens) >= model.config.vocab_size:
        raise BadRequestError(
            f"tokens holds an id outside 0 to {model.config.vocab_size - 1}.",
            param="tokens",
            code="invalid_value",
        )
    async with inference.without_engine(principal, target, "detokenize", costs):
        if len(request.tokens) > THREAD_TOKENS:
            return Detokenized(await asyncio.to_thread(_decode, tokenizer, request.tokens))
        return Detokenized(_decode(tokenizer, request.tokens))


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


def _of_prompt(request: TokenizeRequest) -> CompletionRequest:
    """The completion that would begin with it."""
    if request.prompt is None:
        raise BadRequestError(
            "prompt is missing; send it, or messages.",
            param="prompt",
            code="missing_required_parameter",
        )
    for name in CHAT_FIELDS:
        if getattr(request, name):
            raise BadRequestError(
                f"{name} goes with messages; leave it out.", param=name, code="unsupported_value"
            )
    return CompletionRequest(model=request.model)


def _of_messages(request: TokenizeRequest) -> ChatRequest:
    """The chat that would begin with it."""
    if request.prompt is not None:
        raise BadRequestError(
            "prompt and messages exclude each other; send one of them.",
            param="messages",
            code="invalid_value",
        )
    assert request.messages is not None
    asked = ChatRequest(
        model=request.model,
        messages=request.messages,
        tools=request.tools,
        add_generation_prompt=request.add_generation_prompt,
        continue_final_message=request.continue_final_message,
        chat_template_kwargs=request.chat_template_kwargs,
    )
    check_chat(asked)
    return asked
