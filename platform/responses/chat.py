"""Owns putting a request of the Responses API as a chat, and naming the chat's errors as its own."""

import re
from collections.abc import Iterable

import msgspec

from loraplex.platform.body import decode_body, decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused, renamed
from loraplex.platform.inference.schemas import NULL, ChatRequest
from loraplex.platform.responses.bodies import Json
from loraplex.platform.responses.checks import LOGPROBS
from loraplex.platform.responses.conversation import messages
from loraplex.platform.responses.items import Item
from loraplex.platform.responses.schemas import (
    FunctionTool,
    InputFields,
    ResponseRequest,
    TextFormat,
)

# The chat's fields in errors, longer paths first.
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "top_logprobs",
}
_TOOL = re.compile(r"(tools\[\d+\])\.function")
# Fields that mean the same in both.
_SAME = (
    "temperature",
    "top_p",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
    "top_k",
    "min_p",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
    "repetition_penalty",
    "seed",
    "priority",
)


def tools_of(request: InputFields) -> list[FunctionTool]:
    """The functions the model may call.

    Raises:
        BadRequestError: a tool that is no function, or malformed.
    """
    return [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools or ())]


def wants_logprobs(request: ResponseRequest) -> bool:
    """Whether the answer tells how likely its tokens were."""
    return LOGPROBS in (request.include or ()) or bool(request.top_logprobs)


def chat_of(request: InputFields, items: Iterable[Item]) -> ChatRequest:
    """The chat that answers a request whose conversation consists of `items`.

    Raises:
        BadRequestError: naming the field.
    """
    fields: Json = {
        "model": request.model,
        "messages": messages(request.instructions, items),
        "tools": [_chat_tool(tool) for tool in tools_of(request)] or None,
        "tool_choice": _chat_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
    }
    if request.text is not None:
        fields["verbosity"] = request.text.verbosity
        fields["response_format"] = _chat_format(request.text.format)
    if request.reasoning is not None:
        fields["reasoning_effort"] = request.reasoning.effort
    if isinstance(request, ResponseRequest):
        fields |= {name: getattr(request, name) for name in _SAME}
        fields["max_completion_tokens"] = request.max_output_tokens
        fields["stream"] = request.stream
        if wants_logprobs(request):
            fields |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    given = {name: value for name, value in fields.items() if value is not None}
    # By way of JSON: so the chat's own types judge what is handed through.
    return decode_body(msgspec.json.encode(given), ChatRequest)


def of_response(error: BadRequestError) -> BadRequestError:
    """An error of the chat as whoever sent the request reads it."""
    param = error.param or ""
    if (tool := _TOOL.match(param)) is not None:
        mine = param.replace(tool[0], tool[1], 1)
        return BadRequestError(error.message.replace(param, mine), code=error.code, param=mine)
    return renamed(error, _NAMES)


def _tool(raw: msgspec.Raw, path: str) -> FunctionTool:
    kind = decode_part(raw, _Kind, path).type
    if kind != "function":
        where = f"{path}.type"
        raise refused(where, f"{where} {kind[:40]!r} is not supported; send functions.")
    tool = decode_part(raw, FunctionTool, path)
    for name in ("output_schema", "allowed_callers"):
        if decode_part(getattr(tool, name), object, f"{path}.{name}") is not None:
            raise refused(f"{path}.{name}", f"{path}.{name} is not supported; leave it out.")
    if tool.defer_loading:
        where = f"{path}.defer_loading"
        raise refused(where, f"{where} is not supported; leave it out.")
    return tool


def _chat_tool(tool: FunctionTool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if bytes(tool.parameters) != b"null":
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


class _Kind(msgspec.Struct, frozen=True):
    type: str


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    name: str


class _Allowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    mode: str
    tools: list[_Named]


def _chat_choice(raw: msgspec.Raw) -> str | Json | None:
    if bytes(raw)[:1] in (b'"', b"n"):
        return decode_part(raw, str | None, "tool_choice")  # type: ignore[arg-type]  # a union is a type to msgspec
    kind = decode_part(raw, _Kind, "tool_choice").type
    if kind == "function":
        named = decode_part(raw, _Named, "tool_choice")
        return {"type": kind, "function": {"name": named.name}}
    if kind == "allowed_tools":
        allowed = decode_part(raw, _Allowed, "tool_choice")
        tools = [{"type": tool.type, "function": {"name": tool.name}} for tool in allowed.tools]
        return {"type": kind, "allowed_tools": {"mode": allowed.mode, "tools": tools}}
    raise refused(
        "tool_choice.type", f"tool_choice.type {kind[:40]!r} is not supported; name a function."
    )


def _chat_format(form: TextFormat | None) -> Json | None:
    if form is None:
        return None
    if form.type != "json_schema":
        return {"type": form.type}
    for name, value in (("name", form.name), ("schema", form.schema)):
        if value in (None, NULL):
            path = f"text.format.{name}"
            raise BadRequestError(
                f"{path} is missing.", param=path, code="missing_required_parameter"
            )
    schema: Json = {"name": form.name, "schema": form.schema}
    if form.description is not None:
        schema["description"] = form.description
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}
