"""Owns what is said of POST /v1/chat/completions."""

import json
from collections.abc import Callable

from conformance.judged import Ask, Field, Json, Route, Status, same
from conformance.sampling import sampling_fields

MESSAGES = [{"role": "user", "content": "Once upon"}]
MINIMAL = {
    "model": "base",
    "messages": MESSAGES,
    "max_completion_tokens": 8,
    "temperature": 0,
    "ignore_eos": True,
}
SUPPORTED, PARTLY, REFUSED, IGNORED = Status
CALL = {"name": "f", "arguments": "{}"}
FUNCTION = {
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": {**FUNCTION, "strict": True}}]


def text(body: Json) -> str:
    return str(body["choices"][0]["message"]["content"])


def tokens(ask: Ask, *messages: Json) -> int:
    """Of the prompt that messages make."""
    return int(ask(messages=list(messages))["usage"]["prompt_tokens"])


def messages(ask: Ask) -> None:
    for role in ("developer", "system", "user", "assistant"):
        assert tokens(ask, {"role": role, "content": "x" * 20}) > 20


def content(ask: Ask) -> None:
    part = {"type": "text", "text": "Once upon"}
    assert text(ask(messages=[{"role": "user", "content": [part]}])) == text(ask())
    one, two = (tokens(ask, {"role": "user", "content": [part] * count}) for count in (1, 2))
    assert two >= one + len(part["text"])


def calling(ask: Ask, **fields: Json) -> Json:
    """The choice of an answer that is long enough for a call."""
    return ask(ignore_eos=False, max_completion_tokens=80, **fields)["choices"][0]


def tools(ask: Ask) -> None:
    choice = calling(ask, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "f")
    assert isinstance(json.loads(call["function"]["arguments"])["sure"], bool)


def tool_choice(ask: Ask) -> None:
    two = [*TOOLS, {"type": "function", "function": {**FUNCTION, "name": "g"}}]
    named = {"type": "function", "function": {"name": "g"}}
    (call,) = calling(ask, tools=two, tool_choice=named)["message"]["tool_calls"]
    assert call["function"]["name"] == "g"
    assert "tool_calls" not in calling(ask, tools=two, tool_choice="none")["message"]


def parallel_tool_calls(ask: Ask) -> None:
    choice = calling(ask, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert len(choice["message"]["tool_calls"]) == 1


def functions(ask: Ask) -> None:
    choice = calling(ask, functions=[FUNCTION], function_call={"name": "f"})
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"]["name"] == "f"


def called(ask: Ask) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "tool_calls": [call]}
    assert tokens(ask, *MESSAGES, asked, {"role": "tool", "tool_call_id": "c", "content": "x"})


def taken(message: Json) -> Callable[[Ask], None]:
    def effect(ask: Ask) -> None:
        assert tokens(ask, message)

    return effect


def response_format(ask: Ask) -> None:
    wanted = {"name": "b", "schema": {"type": "boolean"}}
    answer = ask(
        response_format={"type": "json_schema", "json_schema": wanted},
        ignore_eos=False,
        max_completion_tokens=30,
    )
    assert isinstance(json.loads(text(answer)), bool)


def logprobs(ask: Ask) -> None:
    assert ask()["choices"][0]["logprobs"] is None
    entries = ask(logprobs=True)["choices"][0]["logprobs"]["content"]
    assert len(entries) == 8
    assert all(entry["logprob"] < 0 and entry["top_logprobs"] == [] for entry in entries)


def top_logprobs(ask: Ask) -> None:
    for entry in ask(logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]:
        logprobs = [top["logprob"] for top in entry["top_logprobs"]]
        assert logprobs == sorted(logprobs, reverse=True)
        assert (len(logprobs), logprobs[0]) == (3, entry["logprob"])


def most(field: str) -> Field:
    def effect(ask: Ask) -> None:
        answer = ask(**{"max_completion_tokens": ..., field: 3})
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["choices"][0]["finish_reason"] == "length"

    refused = tuple({"max_completion_tokens": ..., field: value} for value in (0, -1, 10_000))
    return Field(field, SUPPORTED, "at least 1", effect, refused)


def response(ask: Ask) -> list[Json]:
    whole = ask(logprobs=True, top_logprobs=1, metadata={"a": "b"}, service_tier="default")
    asking = {"ignore_eos": False, "max_completion_tokens": 80}
    made = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    legacy = {"functions": [FUNCTION], "function_call": {"name": "f"}}
    return [
        whole,
        ask(**asking, **made),
        ask(**asking, **legacy),
        *ask.chunks(stream_options={"include_usage": True}),
        *ask.chunks(**asking, **made),
    ]


def unlike(name: str, refused: Json, allowed: Json, note: str) -> Field:
    """A field of which only the value without effect is taken."""
    return Field(name, REFUSED, note, same(**{name: allowed}), ({name: refused},))


def only_refused(name: str, value: Json, note: str = "") -> Field:
    return Field(name, REFUSED, note, same(**{name: None}), ({name: value},))


def in_messages(name: str, message: Json, note: str) -> Field:
    body = {"messages": [message]}
    return Field(f"messages[].{name}", REFUSED, note, None, (body,), f"messages[0].{name}")


ROUTE = Route(
    "chat completions",
    "/v1/chat/completions",
    MINIMAL,
    (
        Field("messages", SUPPORTED, "all roles", messages, ({"messages": []}, {"messages": ...})),
        Field("messages[].content", SUPPORTED, "text, or parts of it", content),
        Field(
            "messages[].role",
            SUPPORTED,
            "all six",
            messages,
            ({"messages": [{"role": "x", "content": ""}]},),
            "messages[0].role",
        ),
        Field(
            "messages[].name",
            SUPPORTED,
            "for the chat template",
            taken({"role": "user", "content": "x", "name": "n"}),
        ),
        Field("messages[].tool_calls", SUPPORTED, "for the chat template", called),
        Field(
            "messages[].tool_call_id",
            SUPPORTED,
            "for the chat template; a tool's message needs it",
            called,
            ({"messages": [{"role": "tool", "content": "x"}]},),
            "messages[0].tool_call_id",
        ),
        Field(
            "messages[].refusal",
            SUPPORTED,
            "for the chat template",
            taken({"role": "assistant", "refusal": "no"}),
        ),
        Field(
            "messages[].function_call",
            SUPPORTED,
            "of the assistant",
            taken(
                {
                    "role": "assistant",
                    "content": "x",
                    "function_call": {"name": "f", "arguments": "{}"},
                }
            ),
            ({"messages": [{"role": "user", "content": "x", "function_call": CALL}]},),
            "messages[0].function_call",
        ),
        *sampling_fields(text, 8),
        Field(
            "response_format",
            SUPPORTED,
            "`text`, `json_object`, `json_schema`",
            response_format,
            ({"response_format": {"type": "x"}},),
            "response_format.type",
        ),
        Field(
            "tools",
            PARTLY,
            "functions; models whose chat template has tools",
            tools,
            ({"tools": [{"type": "custom", "custom": {"name": "f"}}]},),
            "tools[0].type",
        ),
        Field(
            "tool_choice", SUPPORTED, "all kinds but custom", tool_choice, ({"tool_choice": "x"},)
        ),
        Field("parallel_tool_calls", SUPPORTED, "", parallel_tool_calls),
        Field("functions", SUPPORTED, "as `tools`", functions, ({"functions": [FUNCTION] * 129},)),
        Field("function_call", SUPPORTED, "as `tool_choice`", functions, ({"function_call": "x"},)),
        unlike("reasoning_effort", "low", "none", "only `none`"),
        Field("logprobs", SUPPORTED, "with bytes", logprobs, ({"logprobs": 1},)),
        Field(
            "top_logprobs",
            SUPPORTED,
            "0 to 20, with `logprobs`",
            top_logprobs,
            ({"top_logprobs": 21, "logprobs": True}, {"top_logprobs": 1}),
        ),
        most("max_completion_tokens"),
        most("max_tokens"),
        Field(
            "metadata",
            IGNORED,
            "checked: 16 pairs, keys 64, values 512 characters",
            same(metadata={"a": "b"}),
            ({"metadata": {str(i): "" for i in range(17)}}, {"metadata": {"a": "b" * 513}}),
        ),
        Field("user", SUPPORTED, "who asks, for split aliases", same(user="u")),
        Field(
            "safety_identifier", SUPPORTED, "who asks, without `user`", same(safety_identifier="s")
        ),
        Field("prompt_cache_key", SUPPORTED, "who asks, without those", same(prompt_cache_key="k")),
        Field("prompt_cache_options", IGNORED, "", same(prompt_cache_options={})),
        unlike("prompt_cache_retention", "24h", "in_memory", "only `in_memory`"),
        unlike("service_tier", "scale", "auto", "only `auto`, `default` or `flex`"),
        unlike("modalities", ["audio"], ["text"], "only `text`"),
        unlike("store", True, False, "only false; `/v1/responses` stores"),
        unlike("verbosity", "low", "medium", "only `medium`"),
        only_refused("audio", {"voice": "x", "format": "wav"}),
        only_refused("prediction", {"type": "content", "content": "x"}),
        only_refused("web_search_options", {}),
        only_refused("moderation", {"model": "x"}),
        in_messages(
            "audio", {"role": "assistant", "content": "x", "audio": {"id": "a"}}, "text only"
        ),
        Field(
            "messages[].content[].type",
            PARTLY,
            "text only: no images, audio or files",
            content,
            (
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "image_url", "image_url": {"url": "x"}}],
                        }
                    ]
                },
            ),
            "messages[0].content[0].type",
        ),
    ),
    {
        **dict.fromkeys(
            (
                "id",
                "object",
                "created",
                "model",
                "system_fingerprint",
                "choices",
                "choices[].index",
                "choices[].finish_reason",
                "choices[].message",
                "choices[].message.role",
                "choices[].message.content",
                "choices[].message.refusal",
                "choices[].logprobs",
                "choices[].logprobs.content",
                "choices[].logprobs.content[].token",
                "choices[].logprobs.content[].logprob",
                "choices[].logprobs.content[].bytes",
                "choices[].logprobs.content[].top_logprobs",
                "choices[].logprobs.content[].top_logprobs[].token",
                "choices[].logprobs.content[].top_logprobs[].logprob",
                "choices[].logprobs.content[].top_logprobs[].bytes",
                "choices[].logprobs.refusal",
                "choices[].message.tool_calls",
                "choices[].message.function_call",
                "choices[].delta.tool_calls",
                "service_tier",
                "metadata",
                "choices[].delta",
                "choices[].delta.role",
                "choices[].delta.content",
                "usage",
                "usage.prompt_tokens",
                "usage.completion_tokens",
                "usage.total_tokens",
                "usage.prompt_tokens_details",
                "usage.prompt_tokens_details.cached_tokens",
                "usage.completion_tokens_details",
                "usage.completion_tokens_details.reasoning_tokens",
            ),
            True,
        ),
        **dict.fromkeys(
            (
                "choices[].message.annotations",
                "choices[].message.audio",
                "choices[].delta.refusal",
                "usage.prompt_tokens_details.cache_write_tokens",
                "usage.prompt_tokens_details.audio_tokens",
                "usage.prompt_tokens_details.text_tokens",
                "usage.prompt_tokens_details.image_tokens",
                "usage.completion_tokens_details.text_tokens",
                "usage.completion_tokens_details.accepted_prediction_tokens",
                "usage.completion_tokens_details.rejected_prediction_tokens",
                "usage.completion_tokens_details.audio_tokens",
                "moderation",
            ),
            False,
        ),
    },
    response,
)
