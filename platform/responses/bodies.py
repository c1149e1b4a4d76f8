"""Owns the bodies of the Responses API other than items and events."""

from typing import Literal

import msgspec

from loraplex.platform.responses.items import Item

Json = dict[str, object]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int = 0  # nobody pays for filling the cache


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class Usage(msgspec.Struct):
    """Counted are tokens handed over."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Failure(msgspec.Struct):
    """Why there is no whole answer. OpenAI's clients know few codes, and none that is ours."""

    code: Literal["server_error"]
    message: str


class Incomplete(msgspec.Struct):
    reason: Literal["max_output_tokens"]


class ReasoningConfig(msgspec.Struct):
    effort: str | None
    summary: None = None


class TextConfig(msgspec.Struct):
    format: Json
    verbosity: str | None


class Response(msgspec.Struct, kw_only=True):
    """One answer with all that was asked for."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus
    background: bool = False
    completed_at: int | None = None
    error: Failure | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningConfig
    safety_identifier: str | None
    service_tier: Literal["default", "flex"] = "default"
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: str | Json
    tools: list[Json]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: Usage | None = None
    user: str | None
    metadata: dict[str, str]


class Deleted(msgspec.Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputTokens(msgspec.Struct):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class ItemList(msgspec.Struct):
    """A page of items; the ids of an empty one are empty."""

    data: list[Item]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"
