"""Owns reading the messages of a request: blocks of text, calls and their results, as messages of a chat."""

from typing import NamedTuple

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused
from loraplex.platform.inference.schemas import MAX_MESSAGES, NULL, FunctionCall, Message, ToolCall
from loraplex.platform.messages.schemas import PromptFields


class _Kind(msgspec.Struct, frozen=True):
    type: str


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What blocks of all kinds may have. The cache finds what it knows without being told where to look."""

    type: str
    cache_control: msgspec.Raw = NULL


class _Text(_Block, frozen=True, forbid_unknown_fields=True, kw_only=True):
    text: str
    citations: msgspec.Raw = NULL  # of answers, which clients repeat; there are none of ours


class _Use(_Block, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    name: str
    input: msgspec.Raw
    caller: msgspec.Raw = NULL
    toolset_name: str | None = None


class _Result(_Block, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tool_use_id: str
    content: msgspec.Raw = NULL
    is_error: bool | None = None
    toolset_name: str | None = None


class _Thinking(_Block, frozen=True, forbid_unknown_fields=True, kw_only=True):
    thinking: str
    signature: str = ""


# Each is looked at on its own; a body of 8 MiB has room for 300,000, which would take seconds.
MAX_BLOCKS = 4 * MAX_MESSAGES


class _BlockOf(NamedTuple):
    kind: str
    raw: msgspec.Raw
    path: str


def read_messages(request: PromptFields) -> list[Message]:
    """The conversation of a request.

    Raises:
        BadRequestError: a block of a kind that is not served, or malformed; `param` says where.
    """
    result: list[Message] = []
    if bytes(request.system) != b"null":
        result.append(Message("system", _texts(request.system, "system")))
    left = MAX_BLOCKS
    for i, message in enumerate(request.messages):
        blocks = _blocks(message.content, f"messages[{i}].content")
        left -= len(blocks)
        if left < 0:
            raise _too_many()
        if message.role == "user":
            result += _asked(blocks)
        else:
            result.append(_answered(blocks))
    return result


def _asked(blocks: list[_BlockOf]) -> list[Message]:
    """Results of calls and what the user says, in their order."""
    result: list[Message] = []
    texts: list[str] = []

    def say() -> None:
        if texts:
            result.append(Message("user", "\n".join(texts)))
            texts.clear()

    for kind, raw, at in blocks:
        if kind == "text":
            texts.append(decode_part(raw, _Text, at).text)
        elif kind == "tool_result":
            say()
            result.append(_result(decode_part(raw, _Result, at), at))
        else:
            raise _unknown(kind, at)
    say()
    return result


def _answered(blocks: list[_BlockOf]) -> Message:
    """What the model thought, said and called."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for kind, raw, at in blocks:
        if kind == "text":
            texts.append(decode_part(raw, _Text, at).text)
        elif kind == "thinking":
            thoughts.append(decode_part(raw, _Thinking, at).thinking)
        elif kind == "tool_use":
            use = decode_part(raw, _Use, at)
            decode_part(use.input, dict[str, object], f"{at}.input")
            arguments = bytes(use.input).decode()
            calls.append(ToolCall(use.id, FunctionCall(use.name, arguments)))
        else:
            raise _unknown(kind, at)
    text = "\n".join(texts) if texts or not calls else None
    thought = "\n".join(thoughts) or None
    return Message("assistant", text, tool_calls=calls or None, reasoning_content=thought)


def _result(block: _Result, path: str) -> Message:
    empty = bytes(block.content) == b"null"
    text = "" if empty else _texts(block.content, f"{path}.content")
    if block.is_error:
        text = f"Error: {text}"
    return Message("tool", text, tool_call_id=block.tool_use_id)


def _texts(content: msgspec.Raw, path: str) -> str:
    """Content that is text alone."""
    if bytes(content)[:1] == b'"':
        return decode_part(content, str, path)
    kinds = [block.type for block in decode_part(content, list[_Kind], path)]
    if not kinds:
        raise _empty(path)
    for i, kind in enumerate(kinds):
        if kind != "text":
            raise _unknown(kind, f"{path}[{i}]")
    return "\n".join(block.text for block in decode_part(content, list[_Text], path))


def _blocks(content: msgspec.Raw, path: str) -> list[_BlockOf]:
    """Kind, block and where it is; text stands for one block of it."""
    if bytes(content)[:1] == b'"':
        block = _Text(type="text", text=decode_part(content, str, path))
        return [_BlockOf("text", msgspec.Raw(msgspec.json.encode(block)), path)]
    given = decode_part(content, list[msgspec.Raw], path)
    if not given:
        raise _empty(path)
    if len(given) > MAX_BLOCKS:
        raise _too_many()
    kinds = decode_part(content, list[_Kind], path)
    return [
        _BlockOf(block.type, raw, f"{path}[{i}]")
        for i, (block, raw) in enumerate(zip(kinds, given, strict=True))
    ]


def _too_many() -> BadRequestError:
    return BadRequestError(
        f"messages take at most {MAX_BLOCKS} blocks.", param="messages", code="invalid_value"
    )


def _empty(path: str) -> BadRequestError:
    return BadRequestError(f"{path}: it has no blocks.", param=path, code="invalid_value")


def _unknown(kind: str, path: str) -> BadRequestError:
    where = f"{path}.type"
    return refused(where, f"{where} {kind[:40]!r} is not supported there; send text.")
