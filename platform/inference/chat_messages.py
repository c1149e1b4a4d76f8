"""Owns the messages of a chat as templates expect them."""

import json

from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_template import Json
from loraplex.platform.inference.schemas import FunctionCall, Message
from loraplex.platform.inference.tool_parsers.port import ToolFormat


def template_messages(messages: list[Message]) -> list[Json]:
    """Messages as templates expect them: plain text contents, `developer` as `system`, arguments as objects, and the
    older calls of functions as those of today."""
    return [_template_message(message) for message in messages]


def call_ids(messages: list[Json], form: ToolFormat) -> list[Json]:
    """The messages with the ids of calls as models that write calls this way know them."""
    for message in messages:
        if isinstance(call_id := message.get("tool_call_id"), str):
            message["tool_call_id"] = form.call_id(call_id)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            call["id"] = form.call_id(call["id"])
    return messages


def final_text(prompt: str, message: Message) -> str:
    """A prompt up to the end of what its last message says, for the model to go on there.

    Raises:
        BadRequestError: it is not found in the prompt.
    """
    said = _content(message)
    at = prompt.rfind(said.strip())
    if not said.strip() or at < 0:
        raise BadRequestError(
            "continue_final_message: the chat template does not show the last message's text as it is.",
            param="continue_final_message",
            code="unsupported_value",
        )
    # Templates may strip white space; what they keep of it stays.
    end = at + len(said.lstrip())
    return prompt[:end] if prompt[at:end] == said.lstrip() else prompt[: at + len(said.strip())]


def _template_message(message: Message) -> Json:
    result: Json = {"role": _role(message), "content": _content(message)}
    if message.name is not None:
        result["name"] = message.name
    if message.reasoning_content is not None:
        result["reasoning_content"] = message.reasoning_content
    if message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    elif message.role == "function":
        result["tool_call_id"] = _legacy_id(message.name or "")
    if message.tool_calls:
        result["tool_calls"] = [_call(call.id, call.function) for call in message.tool_calls]
    elif message.function_call is not None:
        function = message.function_call
        result["tool_calls"] = [_call(_legacy_id(function.name), function)]
    return result


def _role(message: Message) -> str:
    renamed = {"developer": "system", "function": "tool"}
    return renamed.get(message.role, message.role)


def _call(call_id: str, function: FunctionCall) -> Json:
    arguments = _arguments(function.arguments)
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": function.name, "arguments": arguments},
    }


def _legacy_id(name: str) -> str:
    """What joins a call to its result where neither has an id."""
    return f"call_{name}"


def _content(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text or part.refusal or "" for part in message.content)
    return message.content or message.refusal or ""


def _arguments(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
