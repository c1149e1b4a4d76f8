"""Owns the request bodies of the Messages API: every documented field is here, so that what is not served can be
refused by name, which `checks` does. Blocks are read in `reading`."""

from typing import Annotated, Literal

import msgspec

from loraplex.platform.inference.chat_tools import MAX_FUNCTIONS
from loraplex.platform.inference.schemas import MAX_MESSAGES, NULL, Int, Seed, TokenId


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message; its content is text or blocks."""

    role: Literal["user", "assistant"]
    content: msgspec.Raw


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function the model may call; `type` is `custom` if it is given."""

    name: str
    input_schema: msgspec.Raw
    type: str | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: msgspec.Raw = NULL
    allowed_callers: msgspec.Raw = NULL
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: msgspec.Raw = NULL


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Int | None = None
    display: str | None = None


class OutputFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user_id: str | None = None


class PromptFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the prompt, be it to answer or to count. Fields typed `Raw` have several shapes or none."""

    model: str
    messages: Annotated[list[Given], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: msgspec.Raw = NULL
    tools: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_FUNCTIONS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: msgspec.Raw = NULL
    speed: str | None = None
    user_profile_id: msgspec.Raw = NULL
    workspace_id: msgspec.Raw = NULL
    mcp_servers: msgspec.Raw = NULL
    context_management: msgspec.Raw = NULL


class CountRequest(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/messages/count_tokens."""


class MessagesRequest(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/messages: Anthropic's fields, then the extras of this server."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    metadata: Metadata | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: float | None = None
    top_k: Int | None = None
    service_tier: str | None = None
    container: msgspec.Raw = NULL
    inference_geo: msgspec.Raw = NULL
    diagnostics: msgspec.Raw = NULL

    min_p: float | None = None
    min_tokens: Int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], msgspec.Meta(max_length=1024)] | None = None
    repetition_penalty: float | None = None
    seed: Seed | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
