"""Owns the response bodies of the OpenAI routes, whole and in chunks."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from loraplex.platform.inference.logprobs import ChatLogprobs, CompletionLogprobs


class PromptDetails(msgspec.Struct):
    cached_tokens: int


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    """Counted are tokens handed over; a prompt counts once however many answers it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: OutputDetails


class CompletionChoice(msgspec.Struct):
    """The ids are there if they were asked for; those of the prompt only where a choice begins."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    prompt_token_ids: tuple[int, ...] | UnsetType = UNSET
    token_ids: tuple[int, ...] | UnsetType = UNSET


class Completion(msgspec.Struct):
    """A whole completion, or one chunk of it: they have the same shape."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
    obfuscation: str | UnsetType = UNSET


class FunctionDelta(msgspec.Struct):
    """A called function; in chunks only the first has its name."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class CallDelta(msgspec.Struct):
    """A call, or more of it; in a whole message it has no index."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta = msgspec.field(default_factory=FunctionDelta)


class ChatMessage(msgspec.Struct):
    """`content` is null if there is a call or thoughts and nothing is said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET
    function_call: FunctionDelta | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletion(msgspec.Struct):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    service_tier: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class ChatDelta(msgspec.Struct, omit_defaults=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET
    function_call: FunctionDelta | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatChunk(msgspec.Struct):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
    obfuscation: str | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET


class Model(msgspec.Struct):
    """`root` and `parent` tell the lineage of an adapter; `max_model_len` is the most tokens of a prompt and its
    answer, null while no engine has told."""

    id: str
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None = None
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    data: list[Model]
    object: Literal["list"] = "list"
