"""Owns which documented fields are refused, each by its name: what is not served is never silently ignored."""

from collections.abc import Iterable

import msgspec

from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, Message


def check_completion(request: CompletionRequest) -> None:
    """Refuse what completions cannot do.

    Raises:
        BadRequestError: naming the field.
    """
    n = request.n or 1
    if request.best_of is not None and request.best_of != n:
        raise _refused("best_of", f"best_of must equal n ({n}) or be left out.")
    if request.suffix:
        raise _refused("suffix", "suffix is not supported; leave it out.")
    if request.echo and request.logprobs is not None:
        raise _refused("echo", "echo together with logprobs is not supported; send one of them.")


def check_chat(request: ChatRequest) -> None:
    """Refuse what chat completions cannot do.

    Raises:
        BadRequestError: naming the field.
    """
    if request.top_logprobs is not None and not request.logprobs:
        raise _refused("top_logprobs", "top_logprobs needs logprobs to be true.")
    _refuse_set(
        ("tools", request.tools),
        ("functions", request.functions),
        ("audio", _value("audio", request.audio)),
        ("prediction", _value("prediction", request.prediction)),
        ("web_search_options", _value("web_search_options", request.web_search_options)),
        ("moderation", _value("moderation", request.moderation)),
        ("store", request.store),
    )
    _refuse_other("tool_choice", _text("tool_choice", request.tool_choice), ("none", "auto"))
    _refuse_other("function_call", _text("function_call", request.function_call), ("none", "auto"))
    _refuse_other("service_tier", request.service_tier, ("auto", "default"))
    _refuse_other("prompt_cache_retention", request.prompt_cache_retention, ("in_memory",))
    _refuse_other("reasoning_effort", request.reasoning_effort, ("none",))
    _refuse_other("verbosity", request.verbosity, ("medium",))
    if request.response_format is not None:
        _refuse_other("response_format.type", request.response_format.type, ("text",))
    for modality in request.modalities or ():
        _refuse_other("modalities", modality, ("text",))
    if request.metadata is not None:
        _check_metadata(request.metadata)
    for i, message in enumerate(request.messages):
        _check_message(message, f"messages[{i}]")


def _check_message(message: Message, path: str) -> None:
    if _value(f"{path}.audio", message.audio) is not None:
        raise _refused(f"{path}.audio", f"{path}.audio is not supported.")
    if message.function_call is not None:
        where = f"{path}.function_call"
        raise _refused(where, f"{where} is not supported; send tool_calls instead.")
    if message.content is None and message.role != "assistant":
        raise _refused(f"{path}.content", f"{path}.content is missing.")
    if message.content is None and not (message.tool_calls or message.refusal):
        raise _refused(f"{path}.content", f"{path}.content is missing.")
    if message.role == "tool" and message.tool_call_id is None:
        raise _refused(f"{path}.tool_call_id", f"{path}.tool_call_id is missing.")
    if isinstance(message.content, list):
        if not message.content:
            raise _refused(f"{path}.content", f"{path}.content has no parts.")
        for i, part in enumerate(message.content):
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


def _text(name: str, raw: msgspec.Raw) -> str | None:
    """A field that is either a plain string or an object; an object stays JSON."""
    value = _value(name, raw)
    return value if isinstance(value, str | None) else bytes(raw).decode()


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
