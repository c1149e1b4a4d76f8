"""What a chat may say of functions: taken, or refused with the place that is wrong."""

import msgspec
import pytest

from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_tools import NO_TOOLS, Tools, read_tools
from loraplex.platform.inference.checks import check_chat
from loraplex.platform.inference.schemas import ChatRequest


def tool(name: str = "f", **fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, object]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def read(**fields: object) -> Tools:
    fields = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    request = msgspec.json.decode(msgspec.json.encode(fields), type=ChatRequest)
    check_chat(request)
    return read_tools(request)


TWO = [tool("f", strict=True), tool("g")]
CALLED = {"name": "f", "arguments": ""}
DEEP: object = {}
for _ in range(70):
    DEEP = {"properties": DEEP}


@pytest.mark.parametrize(
    ("fields", "names", "choice", "single"),
    [
        ({"tools": TWO}, ["f", "g"], "auto", False),
        ({"tools": TWO, "tool_choice": "auto", "parallel_tool_calls": False}, ["f", "g"], "auto", True),
        ({"tools": TWO, "tool_choice": "required"}, ["f", "g"], "required", False),
        ({"tools": TWO, "tool_choice": named("g")}, ["g"], "required", True),
        ({"tools": TWO, "tool_choice": allowed("auto", "g")}, ["g"], "auto", False),
        ({"tools": TWO, "tool_choice": allowed("required", "f", "g")}, ["f", "g"], "required", False),
        ({"functions": [{"name": "f"}]}, ["f"], "auto", True),
        ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, ["f"], "required", True),
        ({"tools": [tool(f"f{i}") for i in range(128)]}, [f"f{i}" for i in range(128)], "auto", False),
    ],
)  # fmt: skip
def test_what_may_or_must_be_called(
    fields: dict[str, object], names: list[str], choice: str, single: bool
) -> None:
    tools = read(**fields)
    assert [each.name for each in tools.functions] == names
    assert (tools.choice, tools.single) == (choice, single)
    assert len(tools.shown) == len(names)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": []},
        {"tools": TWO, "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
        {"tool_choice": "auto", "function_call": None},
    ],
)
def test_nothing_may_be_called(fields: dict[str, object]) -> None:
    assert read(**fields) == NO_TOOLS


def test_templates_see_functions_without_what_is_meant_for_the_server() -> None:
    shown = read(tools=[tool("f", strict=True, description="d", parameters=None)]).shown[0]
    parameters = {"type": "object", "properties": {}}
    function = {"name": "f", "description": "d", "parameters": parameters}
    assert shown == {"type": "function", "function": function}
    assert read(tools=TWO).strict == {"f"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool(f"f{i}") for i in range(129)]}, "tools"),
        ({"tools": [tool("f", description="x" * 600_000)]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"tools": [tool("f"), tool("a b")]}, "tools[1].function.name"),
        ({"tools": [tool("f" * 65)]}, "tools[0].function.name"),
        ({"tools": [tool("f"), tool("f")]}, "tools[1].function.name"),
        ({"tools": [tool("f", parameters=DEEP)]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", returns={})]}, "tools[0].function.returns"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [7]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TWO, "tool_choice": "always"}, "tool_choice"),
        ({"tools": TWO, "tool_choice": named("h")}, "tool_choice.function.name"),
        ({"tools": TWO, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        ({"tools": TWO, "tool_choice": allowed("auto", "h")}, "tool_choice.allowed_tools.tools"),
        ({"tools": TWO, "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools"),
        ({"tools": TWO, "tool_choice": allowed("never", "f")}, "tool_choice.allowed_tools.mode"),
        ({"functions": [{"name": "f", "strict": 1}]}, "functions[0].strict"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "h"}}, "function_call.name"),
        ({"functions": [{"name": "f"}], "function_call": "required"}, "function_call"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"functions": [{"name": "f"}], "tools": TWO}, "functions"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as error:
        read(**fields)
    assert error.value.param == param
    assert param in error.value.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": "x", "tool_calls": [{"id": "c", "function": CALLED}]}, "tool_calls"),
        ({"role": "user", "content": "x", "function_call": CALLED}, "function_call"),
        ({"role": "function", "content": "x"}, "name"),
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "assistant"}, "content"),
    ],
)  # fmt: skip
def test_messages_about_calls_are_checked(message: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as error:
        read(messages=[message])
    assert error.value.param == f"messages[0].{param}"


def test_the_conversation_may_not_be_endless() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"messages"):
        read(messages=[{"role": "user", "content": "x"}] * 8193)
