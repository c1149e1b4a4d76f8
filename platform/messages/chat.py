"""Owns putting a request of the Messages API as a chat, and naming the chat's errors as its own."""

import re

import msgspec

from loraplex.platform.body import decode_body, decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused, renamed
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.messages.reading import read_messages
from loraplex.platform.messages.schemas import (
    MessagesRequest,
    PromptFields,
    Tool,
    ToolChoice,
)

Json = dict[str, object]

# The chat's fields in errors, longer paths first.
_NAMES = {
    "messages": "messages",
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "reasoning_effort": "thinking",
    "user": "metadata.user_id",
    "continue_final_message": "messages",
}
_TOOL = re.compile(r"(tools\[\d+\])\.function(\.parameters)?")
# Fields that mean the same in both.
_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "stream",
    "min_p",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
    "repetition_penalty",
    "seed",
    "priority",
)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# What thinking without an effort is taken for.
_EFFORT = "medium"


def chat_of(request: PromptFields) -> ChatRequest:
    """The chat that answers a request.

    Raises:
        BadRequestError: naming the field.
    """
    fields: Json = {
        "model": request.model,
        "messages": read_messages(request),
        "tools": [_tool(raw, f"tools[{i}]") for i, raw in enumerate(request.tools or ())] or None,
        "reasoning_effort": _effort(request),
    }
    if request.messages[-1].role == "assistant":
        fields["continue_final_message"] = True
    if (choice := request.tool_choice) is not None:
        fields["tool_choice"] = _choice(choice)
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if request.output_config is not None and (form := request.output_config.format) is not None:
        schema = {"name": "output", "schema": form.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(request, MessagesRequest):
        fields |= {name: getattr(request, name) for name in _SAME}
        fields["max_completion_tokens"] = request.max_tokens
        fields["stop"] = request.stop_sequences
        fields["user"] = None if request.metadata is None else request.metadata.user_id
    given = {name: value for name, value in fields.items() if value is not None}
    # By way of JSON: so the chat's own types judge what is handed through.
    try:
        return decode_body(msgspec.json.encode(given), ChatRequest)
    except BadRequestError as error:
        raise of_messages(error) from None


def of_messages(error: BadRequestError) -> BadRequestError:
    """An error of the chat as whoever sent the request reads it."""
    param = error.param or ""
    if (tool := _TOOL.match(param)) is not None:
        own = f"{tool[1]}.input_schema" if tool[2] else tool[1]
        mine = param.replace(tool[0], own, 1)
        return BadRequestError(error.message.replace(param, mine), code=error.code, param=mine)
    return renamed(error, _NAMES)


def _effort(request: PromptFields) -> str | None:
    thinking, config = request.thinking, request.output_config
    effort = None if config is None else config.effort
    if thinking is None:
        return effort
    return "none" if thinking.type == "disabled" else effort or _EFFORT


def _choice(choice: ToolChoice) -> str | Json:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES[choice.type]


class _Kind(msgspec.Struct, frozen=True):
    type: str | None = None


def _tool(raw: msgspec.Raw, path: str) -> Json:
    kind = decode_part(raw, _Kind, path).type
    if kind not in (None, "custom"):
        where = f"{path}.type"
        raise refused(where, f"{where} {kind[:40]!r} is not supported; send your own tools.")
    tool = decode_part(raw, Tool, path)
    for name in ("allowed_callers", "input_examples"):
        if decode_part(getattr(tool, name), object, f"{path}.{name}") is not None:
            raise refused(f"{path}.{name}", f"{path}.{name} is not supported; leave it out.")
    if tool.defer_loading:
        where = f"{path}.defer_loading"
        raise refused(where, f"{where} is not supported; leave it out.")
    function: Json = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}
