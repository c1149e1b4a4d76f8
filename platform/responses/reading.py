"""Owns reading the `input` of a request: text, or items in any of the forms that clients send them in."""

from typing import Literal

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused
from loraplex.platform.inference.schemas import MAX_MESSAGES, NULL
from loraplex.platform.responses.items import (
    CallItem,
    CallOutputItem,
    InputText,
    Item,
    MessageItem,
    OutputText,
    Part,
    ReasoningItem,
    ReasoningText,
    Refusal,
    Status,
    SummaryText,
    new_id,
)


class _Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What items of all kinds may have beside their own fields. Ids are given anew: they need not be ours or unique."""

    type: str | None = None
    id: str | None = None
    status: Status | None = None
    created_by: str | None = None


class _Part(msgspec.Struct, frozen=True):
    """A part of a content; clients repeat what answers had in it."""

    type: str
    text: str | None = None
    refusal: str | None = None


class _Message(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: Literal["user", "system", "developer", "assistant"]
    content: str | list[_Part]
    phase: str | None = None


class _Call(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    call_id: str
    name: str
    arguments: str
    namespace: None = None
    caller: msgspec.Raw = NULL  # who else than the model there could be is refused with its item


class _CallOutput(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    call_id: str
    output: str | list[_Part]
    name: str | None = None
    namespace: None = None
    caller: msgspec.Raw = NULL


class _Reasoning(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    summary: list[_Part] = []
    content: list[_Part] | None = None
    encrypted_content: None = None


class _Kind(msgspec.Struct, frozen=True):
    type: str = "message"


def read_input(value: msgspec.Raw) -> list[Item]:
    """The items of an `input`; text is one message of the user.

    Raises:
        BadRequestError: missing, of a kind that is not served, or malformed; `param` says where.
    """
    first = bytes(value)[:1]
    if first == b'"':
        return [_text_message(decode_part(value, str, "input"))]
    if bytes(value) == b"null":
        raise BadRequestError("input is missing.", param="input", code="missing_required_parameter")
    given = decode_part(value, list[msgspec.Raw], "input")
    if not given:
        raise BadRequestError("input: it has no items.", param="input", code="invalid_value")
    # Before they are looked at one by one: a body of 8 MiB has room for 250,000, which take seconds.
    if len(given) > MAX_MESSAGES:
        raise BadRequestError(
            f"input takes at most {MAX_MESSAGES} items.", param="input", code="invalid_value"
        )
    return [_read(item, f"input[{i}]") for i, item in enumerate(given)]


def _read(item: msgspec.Raw, path: str) -> Item:
    kind = decode_part(item, _Kind, path).type
    if kind == "message":
        return _message(decode_part(item, _Message, path), path)
    if kind == "function_call":
        call = decode_part(item, _Call, path)
        return CallItem(
            id=new_id(CallItem),
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
            status=call.status or "completed",
        )
    if kind == "function_call_output":
        result = decode_part(item, _CallOutput, path)
        return CallOutputItem(
            id=new_id(CallOutputItem),
            call_id=result.call_id,
            output=_output(result.output, path),
            status=result.status or "completed",
        )
    if kind == "reasoning":
        return _reasoning(decode_part(item, _Reasoning, path), path)
    where = f"{path}.type"
    raise refused(where, f"{where} {kind[:40]!r} is not supported; send messages and functions.")


def _text_message(text: str) -> MessageItem:
    return MessageItem(id=new_id(MessageItem), role="user", content=[InputText(text)])


def _message(given: _Message, path: str) -> MessageItem:
    content = given.content
    if isinstance(content, str):
        content = [_Part("output_text" if given.role == "assistant" else "input_text", content)]
    if not content:
        raise refused(f"{path}.content", f"{path}.content has no parts.")
    parts = [
        _part(part, f"{path}.content[{i}]", said=given.role == "assistant")
        for i, part in enumerate(content)
    ]
    return MessageItem(
        id=new_id(MessageItem), role=given.role, content=parts, status=given.status or "completed"
    )


def _part(part: _Part, path: str, *, said: bool) -> Part:
    """A part of a message that the assistant has `said`, or somebody else."""
    if part.type in ("input_text", "output_text", "text"):
        text = _needed(part.text, f"{path}.text")
        return OutputText(text=text) if said else InputText(text)
    if part.type == "refusal" and said:
        return Refusal(_needed(part.refusal, f"{path}.refusal"))
    where = f"{path}.type"
    raise refused(where, f"{where} {part.type[:40]!r} is not supported; send text.")


def _output(given: str | list[_Part], path: str) -> str | list[InputText]:
    if isinstance(given, str):
        return given
    texts = []
    for i, part in enumerate(given):
        read = _part(part, f"{path}.output[{i}]", said=False)
        assert isinstance(read, InputText)
        texts.append(read)
    return texts


def _reasoning(given: _Reasoning, path: str) -> ReasoningItem:
    return ReasoningItem(
        id=new_id(ReasoningItem),
        content=[
            ReasoningText(_needed(part.text, f"{path}.content[{i}].text"))
            for i, part in enumerate(given.content or ())
        ],
        summary=[
            SummaryText(_needed(part.text, f"{path}.summary[{i}].text"))
            for i, part in enumerate(given.summary)
        ],
        status=given.status or "completed",
    )


def _needed(value: str | None, path: str) -> str:
    if value is None:
        raise BadRequestError(f"{path} is missing.", param=path, code="missing_required_parameter")
    return value
