"""Owns the request bodies of the Responses API: every documented field is here, so that what is not served can be
refused by name, which `checks` does. Items are read in `reading`."""

from typing import Annotated, Literal

import msgspec

from loraplex.platform.inference.chat_tools import MAX_FUNCTIONS
from loraplex.platform.inference.schemas import NULL, Int, Seed, TokenId

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Reasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class TextFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = NULL
    strict: bool | None = None


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: TextFormat | None = None
    verbosity: str | None = None


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function the model may call."""

    type: str
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None
    defer_loading: bool | None = None
    output_schema: msgspec.Raw = NULL
    allowed_callers: msgspec.Raw = NULL


class InputFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the prompt, be it to answer or to count. Fields typed `Raw` have several shapes or none."""

    model: str
    input: msgspec.Raw = NULL
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_FUNCTIONS)] | None = None
    tool_choice: msgspec.Raw = NULL
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    truncation: str | None = None
    conversation: msgspec.Raw = NULL


class TokensRequest(InputFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/responses/input_tokens."""

    personality: msgspec.Raw = NULL


class ResponseRequest(InputFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/responses: OpenAI's fields, then the extras of this server."""

    max_output_tokens: Int | None = None
    max_tool_calls: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: msgspec.Raw = NULL
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    background: bool | None = None
    background_options: msgspec.Raw = NULL
    prompt: msgspec.Raw = NULL
    context_management: msgspec.Raw = NULL
    moderation: msgspec.Raw = NULL
    access_programs: msgspec.Raw = NULL
    image: msgspec.Raw = NULL

    top_k: Int | None = None
    min_p: float | None = None
    min_tokens: Int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], msgspec.Meta(max_length=1024)] | None = None
    repetition_penalty: float | None = None
    seed: Seed | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
