"""Owns what is said of the functions of chats."""

import json

from conformance.chat_fields import (
    BAD,
    CANNOT,
    FUNCTION,
    MISSING,
    TOOL,
    TOOLS,
    chosen,
    tokens,
)
from conformance.judged import Ask, Effect, Field, Json, Refusal, no, partly, refused, supported
from conformance.sampling import ADAPTER

LONG = "x" * 37
LEGACY = {"functions": [FUNCTION], "function_call": {"name": "f"}}
TWO = [TOOL, {"type": "function", "function": {**FUNCTION, "name": "g"}}]
CUSTOM = {"type": "custom", "custom": {"name": "f"}}


def tools(ask: Ask) -> None:
    choice = chosen(ask, **TOOLS)
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "f")
    arguments = json.loads(call["function"]["arguments"])
    assert arguments.keys() == {"sure"}
    assert isinstance(arguments["sure"], bool)


def shown(**changes: Json) -> Effect:
    """The effect of what the template writes of a function."""

    def effect(ask: Ask) -> None:
        plain, changed = (
            {"type": "function", "function": f} for f in (FUNCTION, {**FUNCTION, **changes})
        )
        grown = tokens(ask, tools=[changed]) - tokens(ask, tools=[plain])
        assert grown == len(json.dumps({**FUNCTION, **changes})) - len(json.dumps(FUNCTION))

    return effect


def called(ask: Ask, choice: Json, **fields: Json) -> str:
    """The name of the only function that is called."""
    made = chosen(ask, tools=TWO, tool_choice=choice, parallel_tool_calls=False, **fields)
    (call,) = made["message"]["tool_calls"]
    return str(call["function"]["name"])


def tool_choice(ask: Ask) -> None:
    assert called(ask, "required") in ("f", "g")
    # The functions are not shown, so that none is called.
    assert ask(tools=TWO, tool_choice="none")["choices"] == ask()["choices"]
    assert ask(tools=TWO, tool_choice="auto")["choices"] == ask(tools=TWO)["choices"]
    assert tokens(ask, tools=TWO) > tokens(ask, tools=TWO, tool_choice="none") == tokens(ask)


def named(ask: Ask) -> None:
    for name in "fg":
        assert called(ask, {"type": "function", "function": {"name": name}}) == name


def allowed(mode: str, *names: str) -> Json:
    chosen = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": chosen}}


def allowed_tools(ask: Ask) -> None:
    for name in "fg":
        assert called(ask, allowed("required", name)) == name
    # Those that are not allowed are not shown either.
    assert tokens(ask, tools=TWO, tool_choice=allowed("auto", "g")) == tokens(ask, tools=TWO[1:])


def parallel_tool_calls(ask: Ask) -> None:
    # With an end that may not come, calls follow each other for as long as they may.
    going_on = {**TOOLS, "ignore_eos": True, "max_completion_tokens": 140}
    several = ask(**{**going_on, "parallel_tool_calls": True})["choices"][0]["message"]
    one = chosen(ask, **TOOLS)["message"]
    assert len(one["tool_calls"]) == 1
    assert len(several["tool_calls"]) > 1


def functions(ask: Ask) -> None:
    choice = chosen(ask, **LEGACY)
    assert choice["finish_reason"] == "function_call"
    call = choice["message"]["function_call"]
    assert call["name"] == "f"
    assert isinstance(json.loads(call["arguments"]), dict)


def function_fields(ask: Ask) -> None:
    for changes in (
        {"name": LONG},
        {"description": LONG},
        {"parameters": {"type": "object", "title": LONG}},
    ):
        function = {**FUNCTION, **changes}
        as_tool = tokens(ask, tools=[{"type": "function", "function": function}])
        assert tokens(ask, functions=[function]) == as_tool


def function_call(ask: Ask) -> None:
    two = [FUNCTION, {**FUNCTION, "name": "g"}]
    for name in "fg":
        choice = chosen(ask, functions=two, function_call={"name": name})
        assert choice["message"]["function_call"]["name"] == name
    assert ask(functions=two, function_call="none")["choices"] == ask()["choices"]


def bad_tool(code: str, at: str, **changes: Json) -> Refusal:
    function = {k: v for k, v in {**FUNCTION, **changes}.items() if v is not ...}
    return no(code, tools=[{"type": "function", "function": function}], at=f"tools[0].function{at}")


NAMED = {"type": "function", "function": {"name": "h"}}
FUNCTION_FIELDS: tuple[Field, ...] = (
    partly(
        "tools",
        "up to 128; models whose chat template has them",
        tools,
        no(BAD, tools=[TOOL] * 129),
        no(CANNOT, tools=[TOOL], model=ADAPTER),
    ),
    supported("tools[](function)", tools),
    supported("tools[](function).function", tools),
    supported(
        "tools[](function).function.name",
        shown(name=LONG),
        bad_tool(BAD, ".name", name="a b"),
        bad_tool(MISSING, ".name", name=...),
        note="up to 64 letters, digits, `_` and `-`",
    ),
    supported(
        "tools[](function).function.description",
        shown(description=LONG),
        bad_tool(BAD, ".description", description=1),
    ),
    supported(
        "tools[](function).function.parameters",
        shown(parameters={"type": "object", "title": LONG}),
        bad_tool(BAD, ".parameters", parameters=[]),
    ),
    partly(
        "tools[](function).function.strict",
        "schemas that can be enforced",
        tools,
        bad_tool(BAD, ".parameters", strict=True, parameters={"type": "x"}),
    ),
    refused("tools[](custom)", no(BAD, tools=[CUSTOM], at="tools[0].type"), note="functions only"),
    supported(
        "tool_choice",
        tool_choice,
        no(BAD, tool_choice="x", tools=TWO),
        no(BAD, tool_choice="required"),
    ),
    supported("tool_choice(function)", named),
    supported("tool_choice(function).function", named),
    supported(
        "tool_choice(function).function.name",
        named,
        no(BAD, tools=TWO, tool_choice=NAMED),
    ),
    supported("tool_choice(allowed_tools)", allowed_tools),
    supported("tool_choice(allowed_tools).allowed_tools", allowed_tools),
    supported(
        "tool_choice(allowed_tools).allowed_tools.mode",
        allowed_tools,
        no(BAD, tools=TWO, tool_choice=allowed("x", "f")),
    ),
    supported(
        "tool_choice(allowed_tools).allowed_tools.tools",
        allowed_tools,
        no(BAD, tools=TWO, tool_choice=allowed("auto", "h")),
        no(BAD, tools=TWO, tool_choice=allowed("auto")),
    ),
    refused(
        "tool_choice(custom)",
        no(BAD, tools=TWO, tool_choice=CUSTOM, at="tool_choice.type"),
        note="functions only",
    ),
    supported(
        "parallel_tool_calls",
        parallel_tool_calls,
        no(BAD, parallel_tool_calls=1),
    ),
    supported("functions", functions, no(BAD, functions=[FUNCTION] * 129), note="as `tools`"),
    supported(
        "functions[].name",
        function_fields,
        no(BAD, functions=[{**FUNCTION, "name": "a b"}]),
    ),
    supported("functions[].description", function_fields),
    supported("functions[].parameters", function_fields),
    supported(
        "function_call",
        function_call,
        no(BAD, function_call="x", functions=[FUNCTION]),
        no(BAD, function_call={"name": "f"}),
        note="as `tool_choice`",
    ),
    supported(
        "function_call.name",
        function_call,
        no(BAD, functions=[FUNCTION], function_call={"name": "h"}),
    ),
)
