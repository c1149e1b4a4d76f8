"""Owns the request bodies of the OpenAI routes: every documented field is here, so that what is not can be refused by
name. Ranges and combinations are judged in `checks`."""

from typing import Annotated, Literal

import msgspec

# The default of fields that take any JSON; msgspec has no union of Raw with anything.
NULL = msgspec.Raw(b"null")

# What the engine's integers can hold; without a bound JSON's can be of any length.
Int = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=128)]


# Each costs time in the chat template; no conversation of a context's length has more.
MAX_MESSAGES = 8192


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the output must be; one of these, as `structured_outputs` checks."""

    json: msgspec.Raw = NULL
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What completions and chat share: OpenAI's fields, then the extras of this server."""

    model: str
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: Int | None = None
    n: Count | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None

    top_k: Int | None = None
    min_p: float | None = None
    min_tokens: Int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], msgspec.Meta(max_length=1024)] | None = None
    repetition_penalty: float | None = None
    structured_outputs: StructuredOutputs | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None


class CompletionRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/completions."""

    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    best_of: Annotated[int, msgspec.Meta(ge=0, le=128)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    suffix: str | None = None

    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message; only text is served, other kinds are refused by their `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation, of any role."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    # What clients send back from an answer of ours or OpenAI's; the last is LiteLLM's own.
    audio: msgspec.Raw = NULL
    annotations: msgspec.Raw = NULL
    provider_specific_fields: msgspec.Raw = NULL


class JsonSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema: msgspec.Raw = NULL
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    json_schema: JsonSchema | None = None


class ChatRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/chat/completions. Fields typed `Raw` are documented by OpenAI but not served; see `checks`."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    max_completion_tokens: Int | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: msgspec.Raw = NULL
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: msgspec.Raw = NULL
    functions: list[msgspec.Raw] | None = None
    function_call: msgspec.Raw = NULL
    audio: msgspec.Raw = NULL
    prediction: msgspec.Raw = NULL
    web_search_options: msgspec.Raw = NULL
    moderation: msgspec.Raw = NULL

    documents: Annotated[list[dict[str, str]], msgspec.Meta(max_length=1024)] | None = None
    chat_template_kwargs: dict[str, bool | int | float | str | None] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
