"""Owns what a chat says of functions: which there are, which may or must be called, and that all of it is sound."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.inference.tool_parsers.port import Function

# OpenAI's.
MAX_FUNCTIONS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Schemas go into prompts as text, so this much would be over a hundred thousand tokens.
MAX_TOOLS_BYTES = 512 * 1024
# Chat templates and grammars go down a schema by recursion.
MAX_SCHEMA_DEPTH = 64
_NO_PARAMETERS: dict[str, object] = {"type": "object", "properties": {}}

Choice = Literal["none", "auto", "required"]


class _FunctionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class _ToolBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    function: _FunctionBody


class _Kind(msgspec.Struct, frozen=True):
    type: str


class _Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    function: _Name


class _Allowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: list[_Named]


class _AllowedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    allowed_tools: _Allowed


@dataclass(frozen=True, slots=True)
class Tools:
    """What may be called.

    Attributes:
        functions: those that may be, with the schemas of their arguments; the model is shown no others.
        places: where in the request their schemas are.
        shown: the same as chat templates expect them.
        choice: whether it must call one.
        strict: names of those whose arguments must fit their schemas even if it need not.
        single: whether it may call only one.
        field: what of the request asked for them.
    """

    functions: tuple[Function, ...] = ()
    places: tuple[str, ...] = ()
    shown: tuple[dict[str, object], ...] = ()
    choice: Choice = "none"
    strict: frozenset[str] = frozenset()
    single: bool = False
    field: str = "tools"


NO_TOOLS = Tools()


def read_tools(request: ChatRequest) -> Tools:
    """The functions of a request; `functions` and `function_call` are an older way to ask for the same.

    Raises:
        BadRequestError: naming what is wrong.
    """
    legacy = bool(request.functions) or not _harmless(request.function_call)
    if legacy and (request.tools or not _harmless(request.tool_choice)):
        raise _wrong("functions", "functions and function_call cannot be used with tools.")
    if legacy:
        bodies = _legacy_functions(request)
        wanted = _legacy_choice(request, bodies)
        field, of_each, single = "functions", "parameters", True
    else:
        bodies = _functions(request.tools or [])
        wanted = _choice(request, bodies)
        field, of_each = "tools", "function.parameters"
        single = request.parallel_tool_calls is False
    if wanted.choice == "none" or not bodies:
        return NO_TOOLS
    chosen = [
        (i, body)
        for i, body in enumerate(bodies)
        if wanted.only is None or body.name in wanted.only
    ]
    bodies = [body for _, body in chosen]
    return Tools(
        tuple(Function(body.name, body.parameters or _NO_PARAMETERS) for body in bodies),
        tuple(f"{field}[{i}].{of_each}" for i, _ in chosen),
        tuple(_shown(body) for body in bodies),
        wanted.choice,
        frozenset(body.name for body in bodies if body.strict),
        single or wanted.single,
        field,
    )


def _functions(tools: list[msgspec.Raw]) -> list[_FunctionBody]:
    _check_size(tools, "tools")
    bodies = []
    for i, raw in enumerate(tools):
        kind = decode_part(raw, _Kind, f"tools[{i}]").type
        if kind != "function":
            where = f"tools[{i}].type"
            raise _wrong(where, f"{where} {kind[:40]!r} is not supported; send functions.")
        bodies.append(decode_part(raw, _ToolBody, f"tools[{i}]").function)
    _check_functions(bodies, [f"tools[{i}].function" for i in range(len(bodies))])
    return bodies


def _legacy_functions(request: ChatRequest) -> list[_FunctionBody]:
    functions = request.functions or []
    _check_size(functions, "functions")
    paths = [f"functions[{i}]" for i in range(len(functions))]
    bodies = [
        decode_part(raw, _FunctionBody, path) for raw, path in zip(functions, paths, strict=True)
    ]
    _check_functions(bodies, paths)
    return bodies


class _Wanted(NamedTuple):
    """Whether a function must be called, which may be (None for any), and whether only one."""

    choice: Choice
    only: frozenset[str] | None = None
    single: bool = False


def _choice(request: ChatRequest, bodies: list[_FunctionBody]) -> _Wanted:
    raw, names = request.tool_choice, {body.name for body in bodies}
    if _harmless(raw):
        return _Wanted("none" if bytes(raw) == b'"none"' else "auto")
    if not bodies:
        raise _wrong("tool_choice", "tool_choice needs tools; send some, or leave it out.")
    if bytes(raw).startswith(b'"'):
        return _Wanted(_word(raw, "tool_choice", ("none", "auto", "required")))
    kind = decode_part(raw, _Kind, "tool_choice").type
    if kind == "function":
        name = decode_part(raw, _Named, "tool_choice").function.name
        _check_known([name], names, "tool_choice.function.name", "tools")
        return _Wanted("required", frozenset([name]), single=True)
    if kind == "allowed_tools":
        allowed = decode_part(raw, _AllowedChoice, "tool_choice").allowed_tools
        where = "tool_choice.allowed_tools.tools"
        if not allowed.tools:
            raise _wrong(where, f"{where} is empty; name a function.")
        chosen = [tool.function.name for tool in allowed.tools]
        _check_known(chosen, names, where, "tools")
        return _Wanted(allowed.mode, frozenset(chosen))
    raise _wrong(
        "tool_choice.type",
        f"tool_choice.type {kind[:40]!r} is not supported; send 'function' or 'allowed_tools'.",
    )


def _legacy_choice(request: ChatRequest, bodies: list[_FunctionBody]) -> _Wanted:
    raw = request.function_call
    if _harmless(raw):
        return _Wanted("none" if bytes(raw) == b'"none"' else "auto")
    if not bodies:
        raise _wrong("function_call", "function_call needs functions; send some, or leave it out.")
    if bytes(raw).startswith(b'"'):
        return _Wanted(_word(raw, "function_call", ("none", "auto")))
    name = decode_part(raw, _Name, "function_call").name
    _check_known([name], {body.name for body in bodies}, "function_call.name", "functions")
    return _Wanted("required", frozenset([name]))


def _check_size(parts: list[msgspec.Raw], field: str) -> None:
    if len(parts) > MAX_FUNCTIONS:
        raise _wrong(field, f"{field} takes at most {MAX_FUNCTIONS} functions.")
    if sum(len(bytes(part)) for part in parts) > MAX_TOOLS_BYTES:
        raise _wrong(field, f"{field} takes at most {MAX_TOOLS_BYTES} bytes; send fewer.")


def _check_functions(bodies: list[_FunctionBody], paths: list[str]) -> None:
    seen: set[str] = set()
    for body, path in zip(bodies, paths, strict=True):
        if _NAME.fullmatch(body.name) is None:
            raise _wrong(
                f"{path}.name",
                f"{path}.name must be 1 to 64 letters, digits, underscores or hyphens.",
            )
        if body.name in seen:
            raise _wrong(f"{path}.name", f"{path}.name {body.name!r} is there twice.")
        seen.add(body.name)
        if _depth(body.parameters) > MAX_SCHEMA_DEPTH:
            where = f"{path}.parameters"
            raise _wrong(where, f"{where} is nested deeper than {MAX_SCHEMA_DEPTH} levels.")


def _check_known(chosen: Iterable[str], names: set[str], where: str, field: str) -> None:
    for name in chosen:
        if name not in names:
            raise _wrong(where, f"{where} {name[:64]!r} is none of the {field}.")


def _depth(value: object) -> int:
    """Levels of nesting, without recursion: what is decoded can be deeper than Python goes."""
    depth, level = 0, [value]
    while level:
        depth += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    return depth


def _shown(body: _FunctionBody) -> dict[str, object]:
    function: dict[str, object] = {"name": body.name}
    if body.description is not None:
        function["description"] = body.description
    function["parameters"] = body.parameters or _NO_PARAMETERS
    return {"type": "function", "function": function}


def _word(raw: msgspec.Raw, field: str, allowed: Iterable[Choice]) -> Choice:
    word = decode_part(raw, str, field)
    for choice in allowed:
        if word == choice:
            return choice
    choices = " or ".join(repr(choice) for choice in allowed)
    raise _wrong(field, f"{field} {word[:40]!r} is not supported; send {choices}, or a function.")


def _harmless(raw: msgspec.Raw) -> bool:
    """Whether this asks for nothing that needs functions."""
    return bytes(raw) in (b"null", b'"none"', b'"auto"')


def _wrong(param: str, message: str) -> BadRequestError:
    return BadRequestError(message, param=param, code="invalid_value")
