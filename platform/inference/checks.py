"""Owns which documented fields are refused, each by its name: what is not served is never silently ignored."""

from collections.abc import Iterable

import msgspec

from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_tools import read_tools
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, ContentPart, Message

# OpenAI's.
MAX_BEST_OF = 20


def check_completion(request: CompletionRequest) -> None:
    """Refuse what completions cannot do.

    Raises:
        BadRequestError: naming the field.
    """
    n, best_of = request.n or 1, request.best_of
    # OpenAI's least is 0, which asks for no more than n.
    if best_of and best_of < n:
        raise _refused("best_of", f"best_of must be at least n ({n}).")
    if best_of and best_of > max(n, MAX_BEST_OF):
        raise _refused("best_of", f"best_of must be at most {MAX_BEST_OF}.")
    if best_of and best_of > n and request.stream:
        raise _refused(
            "best_of", "best_of above n cannot be streamed: which is best is known at the end."
        )
    if request.suffix and request.echo:
        raise _refused("echo", "echo cannot be used with suffix; send one of them.")


def check_chat(request: ChatRequest) -> None:
    """Refuse what chat completions cannot do.

    Raises:
        BadRequestError: naming the field.
    """
    if request.top_logprobs is not None and not request.logprobs:
        raise _refused("top_logprobs", "top_logprobs needs logprobs to be true.")
    _refuse_set(
        ("audio", _value("audio", request.audio)),
        ("prediction", _value("prediction", request.prediction)),
        ("web_search_options", _value("web_search_options", request.web_search_options)),
        ("moderation", _value("moderation", request.moderation)),
        ("store", request.store),
    )
    read_tools(request)
    _refuse_other("service_tier", request.service_tier, ("auto", "default", "flex"))
    _refuse_other("prompt_cache_retention", request.prompt_cache_retention, ("in_memory",))
    if request.add_generation_prompt and request.continue_final_message:
        raise _refused(
            "continue_final_message",
            "continue_final_message cannot be used with add_generation_prompt; send one of them.",
        )
    _refuse_other("verbosity", request.verbosity, ("medium",))
    for modality in request.modalities or ():
        _refuse_other("modalities", modality, ("text",))
    if request.metadata is not None:
        _check_metadata(request.metadata)
    for i, message in enumerate(request.messages):
        _check_message(message, f"messages[{i}]")


def _check_message(message: Message, path: str) -> None:
    if _value(f"{path}.audio", message.audio) is not None:
        raise _refused(f"{path}.audio", f"{path}.audio is not supported.")
    _check_calls(message, path)
    said = message.tool_calls or message.function_call or message.refusal
    if message.content is None and (message.role != "assistant" or not said):
        raise _refused(f"{path}.content", f"{path}.content is missing.")
    if isinstance(message.content, list):
        _check_parts(message.content, path)


def _check_calls(message: Message, path: str) -> None:
    calls = ("tool_calls", message.tool_calls), ("function_call", message.function_call)
    for name, value in calls:
        if value and message.role != "assistant":
            where = f"{path}.{name}"
            raise _refused(where, f"{where} belongs to messages of the assistant.")
    if message.tool_calls and message.function_call is not None:
        where = f"{path}.function_call"
        raise _refused(where, f"{where} cannot be used with tool_calls; send one of them.")
    if message.role == "function" and not message.name:
        raise _refused(f"{path}.name", f"{path}.name is missing.")
    if message.role == "tool" and message.tool_call_id is None:
        raise _refused(f"{path}.tool_call_id", f"{path}.tool_call_id is missing.")


def _check_parts(parts: list[ContentPart], path: str) -> None:
    if not parts:
        raise _refused(f"{path}.content", f"{path}.content has no parts.")
    for i, part in enumerate(parts):
        where = f"{path}.content[{i}]"
        if part.type not in ("text", "refusal"):
            raise _refused(
                f"{where}.type", f"{where}.type {part.type[:40]!r} is not supported; send text."
            )
        if (part.text if part.type == "text" else part.refusal) is None:
            raise _refused(f"{where}.{part.type}", f"{where}.{part.type} is missing.")


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > 16:
        raise _refused("metadata", "metadata takes at most 16 pairs.")
    if any(len(key) > 64 or len(value) > 512 for key, value in metadata.items()):
        raise _refused("metadata", "metadata keys have at most 64 characters, values at most 512.")


def _value(name: str, raw: msgspec.Raw) -> object:
    # The first decoding skipped over it: only now strings, numbers and depth are looked at.
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError(
            f"{name}: this value cannot be read; leave it out.", param=name, code="invalid_value"
        ) from None
    return value


def _refuse_set(*fields: tuple[str, object]) -> None:
    for name, value in fields:
        # An empty list or false asks for nothing; an empty object switches a feature on.
        if value is not None and value is not False and value != []:
            raise _refused(name, f"{name} is not supported yet; leave it out.")


def _refuse_other(name: str, value: str | None, allowed: Iterable[str]) -> None:
    if value is not None and value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise _refused(
            name, f"{name} {value[:40]!r} is not supported; send {choices}, or leave it out."
        )


def _refused(param: str, message: str) -> BadRequestError:
    return BadRequestError(message, param=param, code="unsupported_value")
