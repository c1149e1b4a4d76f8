"""Owns what is said of POST /v1/responses, but for its input."""

import json

from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParams

from conformance.chat_fields import BAD, CANNOT, FUNCTION, MISSING
from conformance.judged import (
    Ask,
    Effect,
    Field,
    Json,
    Reply,
    Route,
    at,
    ignored,
    keeps_version,
    no,
    partly,
    refused,
    supported,
)
from conformance.response_input import INPUT_FIELDS, LONG, count
from conformance.sampling import ADAPTER, WHO_ASKS
from conformance.spec import kinds_of, paths

MINIMAL = {
    "model": "base",
    "input": "Once upon",
    "max_output_tokens": 16,
    "temperature": 0,
    "ignore_eos": True,
    "store": False,
}
CALLING = {"ignore_eos": False, "max_output_tokens": 90}
TOOL = {"type": "function", "strict": True, **FUNCTION}
TWO = [TOOL, {**TOOL, "name": "g"}]
CALL = {**CALLING, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
LETTERS = {"type": "json_schema", "name": "s", "schema": FUNCTION["parameters"], "strict": True}
EVENTS = "tests/platform/responses/test_events.py"
THOUGHTS = f"{EVENTS}::test_thoughts_text_and_calls_are_items_with_events_of_their_own"


def text(body: Json) -> str:
    (item,) = body["output"]
    return str(item["content"][0]["text"])


def said(**fields: Json) -> Effect:
    """The effect of having none, but that the answer repeats them."""

    def effect(ask: Ask) -> None:
        answer = ask(**fields)
        assert text(answer) == text(ask())
        for name, value in fields.items():
            assert value is None or answer.get(name, value) == value

    return effect


def model(ask: Ask) -> None:
    assert text(ask(model=ADAPTER)) != text(ask())
    answer = ask.raw(model="nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def instructions(ask: Ask) -> None:
    longer = {"instructions": LONG * 2}
    assert count(ask, **longer) - count(ask, instructions=LONG) == len(LONG)
    assert ask(**longer)["instructions"] == LONG * 2


def previous(ask: Ask) -> None:
    first = ask(store=True)
    second = ask(previous_response_id=first["id"], store=True)
    assert second["previous_response_id"] == first["id"]
    said = [
        {"role": "user", "content": "Once upon"},
        {"role": "assistant", "content": text(first)},
        {"role": "user", "content": "Once upon"},
    ]
    assert second["usage"]["input_tokens"] == count(ask, input=said)


def store(ask: Ask) -> None:
    for kept, status in ((True, 200), (False, 404)):
        answer = ask(store=kept)
        assert answer["store"] is kept
        assert ask.http.get(f"/v1/responses/{answer['id']}").status_code == status


def max_output_tokens(ask: Ask) -> None:
    answer = ask(max_output_tokens=17)
    assert answer["usage"]["output_tokens"] == 17
    assert (answer["status"], answer["max_output_tokens"]) == ("incomplete", 17)
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


def temperature(ask: Ask) -> None:
    assert text(ask(temperature=2, seed=1)) != text(ask())
    assert ask(temperature=0.5)["temperature"] == 0.5


def top_p(ask: Ask) -> None:
    answer = ask(temperature=1, seed=1, top_p=1e-6)
    assert text(answer) == text(ask()) != text(ask(temperature=1, seed=1))
    assert answer["top_p"] == 1e-6


def logprobs(ask: Ask) -> None:
    for fields, number in (
        ({"top_logprobs": 2}, 2),
        ({"include": ["message.output_text.logprobs"]}, 0),
    ):
        told = ask(**fields)["output"][0]["content"][0]["logprobs"]
        assert [len(entry["top_logprobs"]) for entry in told] == [number] * 16
    assert "logprobs" not in ask()["output"][0]["content"][0]


def metadata(ask: Ask) -> None:
    assert ask(metadata={"a": "b"})["metadata"] == {"a": "b"}


def effort(ask: Ask) -> None:
    assert count(ask, reasoning={"effort": "minimal"}) == count(ask) + len("minimal")
    assert ask(reasoning={"effort": "minimal"})["reasoning"]["effort"] == "minimal"


def service_tier(ask: Ask) -> None:
    tiers = {tier: ask(service_tier=tier)["service_tier"] for tier in ("auto", "default", "flex")}
    assert tiers == {"auto": "default", "default": "default", "flex": "flex"}


def stream(ask: Ask) -> None:
    events = ask.events()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text(events[-1]["response"]) == text(ask())


def obfuscation(ask: Ask) -> None:
    for wanted in (True, False):
        events = ask.events(stream_options={"include_obfuscation": wanted})
        deltas = [e for e in events if e["type"] == "response.output_text.delta"]
        assert {"obfuscation" in delta for delta in deltas} == {wanted}


def json_schema(ask: Ask) -> None:
    answer = ask(text={"format": LETTERS}, **CALLING)
    assert isinstance(json.loads(text(answer))["sure"], bool)
    told = {**LETTERS, "description": None}
    assert answer["text"]["format"] == told


def json_object(ask: Ask) -> None:
    # What follows is any object, which a random model may not end in time.
    answer = ask(text={"format": {"type": "json_object"}}, **CALLING)
    assert text(answer).lstrip().startswith("{")
    assert answer["text"]["format"] == {"type": "json_object"}


def called(ask: Ask, **fields: Json) -> Json:
    calls = [
        item for item in ask(**{**CALL, **fields})["output"] if item["type"] == "function_call"
    ]
    (call,) = calls
    return call


def tools(ask: Ask) -> None:
    call = called(ask)
    assert call["name"] == "f"
    assert isinstance(json.loads(call["arguments"])["sure"], bool)


def named(ask: Ask) -> None:
    for name in "fg":
        assert (
            called(ask, tools=TWO, tool_choice={"type": "function", "name": name})["name"] == name
        )


def allowed(mode: str, *names: str) -> Json:
    chosen = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "mode": mode, "tools": chosen}


def allowed_tools(ask: Ask) -> None:
    for name in "fg":
        assert called(ask, tools=TWO, tool_choice=allowed("required", name))["name"] == name


def tool_choice(ask: Ask) -> None:
    assert text(ask(tools=TWO, tool_choice="none")) == text(ask())
    assert called(ask, tools=TWO)["name"] in ("f", "g")


def shown(**changes: Json) -> Effect:
    """The effect of what the template writes of a function."""

    def effect(ask: Ask) -> None:
        plain, changed = count(ask, tools=[TOOL]), count(ask, tools=[{**TOOL, **changes}])
        told = {**FUNCTION, **changes}
        assert changed - plain == len(json.dumps(told)) - len(json.dumps(FUNCTION))

    return effect


def none_of(name: str, value: Json) -> Field:
    return refused(name, no(CANNOT, **{name: value}), effect=said(**{name: None}))


def inside(field: str, name: str, good: str, bad: str) -> Field:
    """A field of an object of which one value is taken."""
    return partly(
        f"{field}.{name}",
        f"only `{good}`",
        said_plainly(field, name, good),
        no(CANNOT, **{field: {name: bad}}),
    )


def said_plainly(field: str, name: str, value: Json) -> Effect:
    def effect(ask: Ask) -> None:
        assert text(ask(**{field: {name: value}})) == text(ask())

    return effect


def no_kind(field: str, kind: str) -> Field:
    """A kind of tool, or of choosing one, that is not there."""
    value = [{"type": kind}] if field == "tools[]" else {"type": kind}
    name = field.removesuffix("[]")
    given = {"tools": [TOOL]} | {name: value}
    where = "tools[0].type" if field == "tools[]" else "tool_choice.type"
    return refused(f"{field}({kind})", no(CANNOT, at=where, **given))


TOOL_KINDS = [kind for kind in kinds_of(ResponseCreateParams, "tools[]") if kind != "function"]
CHOICES = [
    kind
    for kind in kinds_of(ResponseCreateParams, "tool_choice")
    if kind not in ("function", "allowed_tools")
]
FORMAT = "text.format(json_schema)"


def bad_format(code: str, name: str, value: Json) -> Json:
    form = {key: each for key, each in {**LETTERS, name: value}.items() if each is not ...}
    return no(code, at=f"text.format.{name}", text={"format": form})


def bad_tool(code: str, name: str, value: Json) -> Json:
    tool = {key: each for key, each in {**TOOL, name: value}.items() if each is not ...}
    return no(code, at=f"tools[0].{name}", tools=[tool])


FIELDS = (
    *INPUT_FIELDS,
    supported(
        "model", model, no(MISSING, model=...), note="a base model, or an adapter of the tenant"
    ),
    supported("instructions", instructions, no(BAD, instructions=1)),
    supported("previous_response_id", previous, no(BAD, previous_response_id=1)),
    supported("store", store, no(BAD, store=1)),
    supported(
        "max_output_tokens", max_output_tokens, no(BAD, max_output_tokens=15), note="at least 16"
    ),
    supported("temperature", temperature, no(BAD, temperature=2.1), note="0 to 2"),
    partly("top_p", "above 0, up to 1", top_p, no(BAD, top_p=0), no(BAD, top_p=1.1)),
    supported("top_logprobs", logprobs, no(BAD, top_logprobs=21), note="0 to 20"),
    partly(
        "include",
        "`message.output_text.logprobs`; `reasoning.encrypted_content`, of which there is none",
        logprobs,
        no(CANNOT, include=["file_search_call.results"], at="include[0]"),
    ),
    supported(
        "metadata",
        metadata,
        no(CANNOT, metadata={str(i): "" for i in range(17)}),
        no(CANNOT, metadata={"a": "b" * 513}),
        note="repeated in the answer",
    ),
    ignored(
        "max_tool_calls",
        "it counts calls of built-in tools, of which there are none",
        said(max_tool_calls=1),
        no(BAD, max_tool_calls=0),
    ),
    *(
        supported(name, keeps_version(name), no(BAD, **{name: 1}), note=WHO_ASKS)
        for name in ("user", "safety_identifier", "prompt_cache_key")
    ),
    ignored(
        "prompt_cache_options",
        "prefixes are always cached, and no answer changes",
        said(prompt_cache_options={"mode": "implicit"}),
    ),
    partly(
        "prompt_cache_retention",
        "only `in_memory`",
        said(prompt_cache_retention="in_memory"),
        no(CANNOT, prompt_cache_retention="24h"),
    ),
    partly(
        "service_tier", "`auto`, `default`, `flex`", service_tier, no(CANNOT, service_tier="scale")
    ),
    partly(
        "truncation", "only `disabled`", said(truncation="disabled"), no(CANNOT, truncation="auto")
    ),
    supported("stream", stream, no(BAD, stream="yes")),
    supported("stream_options", obfuscation, no(CANNOT, stream_options={})),
    supported("stream_options.include_obfuscation", obfuscation, note="off unless asked for"),
    partly(
        "reasoning",
        "as far as the model's chat template has it",
        effort,
        no(CANNOT, at="reasoning.effort", model=ADAPTER, reasoning={"effort": "low"}),
    ),
    supported("reasoning.effort", effort, no(BAD, reasoning={"effort": "x"})),
    inside("reasoning", "summary", "auto", "detailed"),
    inside("reasoning", "generate_summary", "auto", "concise"),
    inside("reasoning", "context", "auto", "all_turns"),
    inside("reasoning", "mode", "standard", "pro"),
    supported("text", json_schema, no(BAD, text=1)),
    inside("text", "verbosity", "medium", "low"),
    supported(
        "text.format", json_schema, no(BAD, at="text.format.type", text={"format": {"type": "x"}})
    ),
    supported("text.format(text)", said_plainly("text", "format", {"type": "text"})),
    supported("text.format(json_object)", json_object),
    supported(FORMAT, json_schema),
    supported(f"{FORMAT}.name", json_schema, bad_format(MISSING, "name", ...)),
    supported(f"{FORMAT}.schema", json_schema, bad_format(MISSING, "schema", ...)),
    ignored(
        f"{FORMAT}.description",
        "the schema says it all",
        json_schema,
        bad_format(BAD, "description", 1),
    ),
    supported(
        f"{FORMAT}.strict",
        json_schema,
        bad_format(BAD, "strict", 1),
        note="schemas are always enforced",
    ),
    partly("tools", "functions", tools, no(BAD, tools=[TOOL] * 129)),
    supported("tools[](function)", tools),
    supported("tools[](function).name", shown(name=LONG), bad_tool(MISSING, "name", ...)),
    supported(
        "tools[](function).description", shown(description=LONG), bad_tool(BAD, "description", 1)
    ),
    supported(
        "tools[](function).parameters",
        shown(parameters={"type": "object", "title": LONG}),
        bad_tool(BAD, "parameters", []),
    ),
    supported("tools[](function).strict", tools, bad_tool(BAD, "strict", 1)),
    refused("tools[](function).async", bad_tool("unknown_parameter", "async", True)),
    refused("tools[](function).allowed_callers", bad_tool(CANNOT, "allowed_callers", ["direct"])),
    refused("tools[](function).defer_loading", bad_tool(CANNOT, "defer_loading", True)),
    refused("tools[](function).output_schema", bad_tool(CANNOT, "output_schema", {})),
    *(no_kind("tools[]", kind) for kind in TOOL_KINDS),
    supported("tool_choice", tool_choice, no(BAD, tool_choice="x", tools=TWO)),
    supported("tool_choice(function)", named),
    supported("tool_choice(function).name", named),
    supported("tool_choice(allowed_tools)", allowed_tools),
    supported("tool_choice(allowed_tools).mode", allowed_tools),
    supported("tool_choice(allowed_tools).tools", allowed_tools),
    *(no_kind("tool_choice", kind) for kind in CHOICES),
    supported("parallel_tool_calls", tools, no(BAD, parallel_tool_calls=1)),
    none_of("background", True),
    none_of("background_options", {}),
    none_of("conversation", "conv_1"),
    none_of("prompt", {"id": "p"}),
    none_of("context_management", [{"type": "compaction"}]),
    none_of("moderation", {}),
    none_of("access_programs", {}),
    none_of("image", {}),
)


def answers(ask: Ask) -> list[Json]:
    told = {"metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"}
    body = ask(
        **told,
        store=True,
        top_logprobs=1,
        max_tool_calls=1,
        instructions="Hm",
        text={"verbosity": "medium"},
        reasoning={"effort": "low"},
    )
    assert told.items() <= body.items()
    assert (body["object"], body["status"], body["model"]) == ("response", "incomplete", "base")
    assert body["id"].startswith("resp_")
    usage = body["usage"]
    assert usage["output_tokens"] == 16
    assert usage["total_tokens"] == usage["input_tokens"] + 16
    assert ask.http.get(f"/v1/responses/{body['id']}").json() == body
    whole = ask(**CALL, previous_response_id=body["id"], text={"format": {"type": "text"}})
    assert (whole["status"], whole["incomplete_details"]) == ("completed", None)
    assert whole["completed_at"] >= whole["created_at"]
    return [body, whole, ask(text={"format": {**LETTERS, "description": "d"}}, **CALLING)]


KINDS = kinds_of(Response, "output[]")
NEVER = {
    "access_programs", "conversation", "image", "input_transformations", "moderation", "prompt",
    "prompt_cache_diagnostics", "prompt_cache_options", "prompt_cache_retention", "tool_usage",
    "error.misalignment", "error.param", "error.type", "reasoning.context", "reasoning.mode",
    "reasoning.generate_summary", "usage.input_tokens_details.cache_write_tokens_details",
    "output[](message).phase", "output[](message).content[](refusal)",
    "output[](function_call).async", "output[](function_call).caller",
    "output[](function_call).namespace", "text.format(json_object)",
    *(f"output[]({kind})" for kind in KINDS if kind not in ("message", "function_call", "reasoning")),
}  # fmt: skip
ELSEWHERE = {
    "error": f"{EVENTS}::test_a_broken_stream_keeps_what_was_handed_over",
    "error.code": f"{EVENTS}::test_a_broken_stream_keeps_what_was_handed_over",
    "error.message": f"{EVENTS}::test_a_broken_stream_keeps_what_was_handed_over",
}


def reasoning(path: str) -> bool:
    return path.startswith("output[](reasoning)")


INSIDE = {
    "instructions": "`instructions` of the request, as text",
    "tools": "`tools` of the request",
    "output[](message).content[](output_text).annotations": "there are none, the list is empty",
    "tool_choice": "`tool_choice` of the request",
}
NULL = {"reasoning.summary"}
LEFT = (
    paths(Response, {*NEVER, *INSIDE, *NULL, "output[](reasoning)"})
    - NEVER
    - NULL
    - ELSEWHERE.keys()
)
ROUTE = Route(
    "Responses",
    "POST /v1/responses",
    ResponseCreateParams,
    at("/v1/responses", MINIMAL),
    FIELDS,
    (
        Reply(
            "",
            Response,
            answers,
            tuple(sorted(path for path in LEFT if not reasoning(path))),
            null=tuple(NULL),
            never=tuple(sorted(NEVER)),
            inside={**INSIDE, "output[](reasoning)": "the test of items"},
            extras=("store",),
            elsewhere={**ELSEWHERE, "output[](reasoning)": THOUGHTS},
        ),
    ),
)
ROUTES = (ROUTE,)
