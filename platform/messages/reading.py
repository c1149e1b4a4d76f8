"""Owns reading the messages of a request: blocks of text, calls and their results, as messages of a chat."""

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused
from loraplex.platform.inference.schemas import NULL, FunctionCall, Message, ToolCall
from loraplex.platform.messages.schemas import Given, PromptFields


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
    input: dict[str, msgspec.Raw]
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


def read_messages(request: PromptFields) -> list[Message]:
    """The conversation of a request.

    Raises:
        BadRequestError: a block of a kind that is not served, or malformed; `param` says where.
    """
    result: list[Message] = []
    if bytes(request.system) != b"null":
        result.append(Message("system", _texts(request.system, "system")))
    for i, message in enumerate(request.messages):
        path = f"messages[{i}].content"
        if message.role == "user":
            result += _asked(message, path)
        else:
            result.append(_answered(message, path))
    return result


def _asked(message: Given, path: str) -> list[Message]:
    """Results of calls and what the user says, in their order."""
    result: list[Message] = []
    texts: list[str] = []

    def say() -> None:
        if texts:
            result.append(Message("user", "\n".join(texts)))
            texts.clear()

    for kind, raw, at in _blocks(message.content, path):
        if kind == "text":
            texts.append(decode_part(raw, _Text, at).text)
        elif kind == "tool_result":
            say()
            result.append(_result(decode_part(raw, _Result, at), at))
        else:
            raise _unknown(kind, at)
    say()
    return result


def _answered(message: Given, path: str) -> Message:
    """What the model thought, said and called."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for kind, raw, at in _blocks(message.content, path):
        if kind == "text":
            texts.append(decode_part(raw, _Text, at).text)
        elif kind == "thinking":
            thoughts.append(decode_part(raw, _Thinking, at).thinking)
        elif kind == "tool_use":
            use = decode_part(raw, _Use, at)
            arguments = msgspec.json.encode(use.input).decode()
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
    texts = []
    for kind, raw, at in _blocks(content, path):
        if kind != "text":
            raise _unknown(kind, at)
        texts.append(decode_part(raw, _Text, at).text)
    return "\n".join(texts)


def _blocks(content: msgspec.Raw, path: str) -> list[tuple[str, msgspec.Raw, str]]:
    """Kind, block and where it is; text stands for one block of it."""
    if bytes(content)[:1] == b'"':
        block = _Text(type="text", text=decode_part(content, str, path))
        return [("text", msgspec.Raw(msgspec.json.encode(block)), path)]
    given = decode_part(content, list[msgspec.Raw], path)
    if not given:
        raise BadRequestError(f"{path}: it has no blocks.", param=path, code="invalid_value")
    at = [f"{path}[{i}]" for i in range(len(given))]
    return [
        (decode_part(block, _Kind, where).type, block, where)
        for block, where in zip(given, at, strict=True)
    ]


def _unknown(kind: str, path: str) -> BadRequestError:
    where = f"{path}.type"
    return refused(where, f"{where} {kind[:40]!r} is not supported there; send text.")
