"""Owns what is said of POST /v1/chat/completions, but for messages and functions."""

import json

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParams

from conformance.chat_fields import BAD, CALLING, CANNOT, MESSAGES, MISSING, TOOLS, tokens
from conformance.chat_functions import FUNCTION_FIELDS, LEGACY
from conformance.chat_messages import MESSAGE_FIELDS
from conformance.completions import USAGE_NEVER, USAGE_SENT, check_usage
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
    same,
    supported,
)
from conformance.sampling import ADAPTER, WHO_ASKS, sampling_fields

MINIMAL = {
    "model": "base",
    "messages": MESSAGES,
    "max_completion_tokens": 8,
    "temperature": 0,
    "ignore_eos": True,
}
SCHEMA = "response_format.json_schema"  # in errors
SURE = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


def text(body: Json) -> str:
    return str(body["choices"][0]["message"]["content"])


def shaped(form: Json, **limits: Json) -> Effect:
    """The effect of a format: an answer that is JSON."""

    def effect(ask: Ask) -> None:
        answer = ask(response_format=form, ignore_eos=False, max_completion_tokens=90, **limits)
        value = json.loads(text(answer))
        assert isinstance(value, dict)
        if form["type"] == "json_schema":
            assert isinstance(value["sure"], bool)

    return effect


# So that it ends: of a random model's letters only those that close the object.
CLOSING = {"logit_bias": {str(ord("}")): 100, str(ord("{")): 50}}
JSON_OBJECT = shaped({"type": "json_object"}, **CLOSING)
STRICT = {**SURE, "additionalProperties": False}
JSON_SCHEMA = shaped(
    {"type": "json_schema", "json_schema": {"name": "s", "schema": STRICT, "strict": True}}
)


def text_format(ask: Ask) -> None:
    same(response_format={"type": "text"})(ask)


def schema(**fields: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": STRICT, **fields}}


def description(ask: Ask) -> None:
    forms = (schema(), schema(description="whether it is so"))
    first, second = (
        text(ask(response_format=form, ignore_eos=False, max_completion_tokens=90))
        for form in forms
    )
    assert first == second


def reasoning_effort(ask: Ask) -> None:
    # The template of this model repeats it.
    assert tokens(ask, reasoning_effort="minimal") == tokens(ask) + len("minimal")


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
        # A token is a byte here; some are no text by themselves.
        assert [top["bytes"] is None or len(top["bytes"]) for top in entry["top_logprobs"]]


def most(field: str) -> Field:
    def effect(ask: Ask) -> None:
        answer = ask(**{"max_completion_tokens": ..., field: 3})
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["choices"][0]["finish_reason"] == "length"

    def refusal(code: str, value: int) -> Json:
        return no(code, **{"max_completion_tokens": ..., field: value})

    return supported(
        field,
        effect,
        refusal(BAD, 0),
        refusal(BAD, -1),
        refusal("context_length_exceeded", 10_000),
        note="at least 1",
    )


def metadata(ask: Ask) -> None:
    assert ask(metadata={"a": "b"})["metadata"] == {"a": "b"}
    assert "metadata" not in ask()


def service_tier(ask: Ask) -> None:
    tiers = {tier: ask(service_tier=tier)["service_tier"] for tier in ("auto", "default", "flex")}
    assert tiers == {"auto": "default", "default": "default", "flex": "flex"}


def none_of(name: str, value: Json, note: str = "") -> Field:
    """A field that asks for what is not there."""
    return refused(name, no(CANNOT, **{name: value}), note=note, effect=same(**{name: None}))


def only(name: str, bad: Json, good: Json) -> Field:
    """A field of which only the value without effect is taken."""
    shown = json.dumps(good)
    return partly(
        name,
        f"only `{shown}`",
        same(**{name: good}),
        no(CANNOT, **{name: bad}),
        no(BAD, **{name: 1}),
    )


def answers(ask: Ask) -> list[Json]:
    body = ask(logprobs=True, top_logprobs=1, metadata={"a": "b"}, service_tier="default")
    assert (body["object"], body["model"]) == ("chat.completion", "base")
    assert body["id"].startswith("chatcmpl-")
    assert body["system_fingerprint"].startswith("fp_")
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    assert choice["message"]["role"] == "assistant"
    check_usage(body["usage"], tokens(ask), 8)
    called, legacy = ask(**CALLING, **TOOLS), ask(**CALLING, **LEGACY)
    assert called["choices"][0]["message"]["content"] is None
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert legacy["choices"][0]["finish_reason"] == "function_call"
    return [body, called, legacy]


def chunks(ask: Ask) -> list[Json]:
    told = {"stream_options": {"include_usage": True}, "service_tier": "flex"}
    said = ask.chunks(**told, logprobs=True, top_logprobs=1)
    assert {chunk["object"] for chunk in said} == {"chat.completion.chunk"}
    assert {chunk["service_tier"] for chunk in said} == {"flex"}
    first, *rest = (chunk["choices"][0]["delta"] for chunk in said[:-1])
    assert first == {"role": "assistant", "content": ""}
    assert all("role" not in delta for delta in rest)
    called = ask.chunks(**CALLING, **TOOLS)
    deltas = [chunk["choices"][0]["delta"] for chunk in called]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call.get("id", "") for call in calls[1:]] == [""] * (len(calls) - 1)
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments).keys() == {"sure"}
    assert called[-1]["choices"][0]["finish_reason"] == "tool_calls"
    legacy = ask.chunks(**CALLING, **LEGACY)
    assert legacy[-1]["choices"][0]["finish_reason"] == "function_call"
    return [*said, *called, *legacy, *ask.chunks(stream_options={"include_obfuscation": True})]


HEADING = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "choices")
LOGPROBS = (
    "choices[].logprobs",
    "choices[].logprobs.content",
    "choices[].logprobs.content[].token",
    "choices[].logprobs.content[].logprob",
    "choices[].logprobs.content[].bytes",
    "choices[].logprobs.content[].top_logprobs",
    "choices[].logprobs.content[].top_logprobs[].token",
    "choices[].logprobs.content[].top_logprobs[].logprob",
    "choices[].logprobs.content[].top_logprobs[].bytes",
)
ROUTE = Route(
    "Chat completions",
    "POST /v1/chat/completions",
    CompletionCreateParams,
    at("/v1/chat/completions", MINIMAL),
    (
        *MESSAGE_FIELDS,
        *FUNCTION_FIELDS,
        *sampling_fields(text, 8, "max_completion_tokens"),
        partly(
            "response_format",
            "all three kinds",
            JSON_SCHEMA,
            no(CANNOT, response_format={"type": "x"}, at="response_format.type"),
        ),
        supported("response_format(text)", text_format),
        supported("response_format(json_object)", JSON_OBJECT),
        supported("response_format(json_schema)", JSON_SCHEMA),
        supported(
            "response_format(json_schema).json_schema",
            JSON_SCHEMA,
            no(MISSING, response_format={"type": "json_schema"}),
        ),
        supported(
            "response_format(json_schema).json_schema.name",
            JSON_SCHEMA,
            no(BAD, response_format=schema(name="a b"), at=f"{SCHEMA}.name"),
            note="up to 64 letters, digits, `_` and `-`",
        ),
        ignored(
            "response_format(json_schema).json_schema.description",
            "the schema says it all",
            description,
            no(
                BAD,
                response_format=schema(description=1),
                at=f"{SCHEMA}.description",
            ),
        ),
        partly(
            "response_format(json_schema).json_schema.schema",
            "what cannot be enforced is refused",
            JSON_SCHEMA,
            no(BAD, response_format=schema(schema={"type": "x"}), at=f"{SCHEMA}.schema"),
        ),
        supported(
            "response_format(json_schema).json_schema.strict",
            JSON_SCHEMA,
            no(BAD, response_format=schema(strict=1), at=f"{SCHEMA}.strict"),
            note="schemas are always enforced",
        ),
        partly(
            "reasoning_effort",
            "as far as the model's chat template has it",
            reasoning_effort,
            no(CANNOT, model=ADAPTER, reasoning_effort="low"),
        ),
        supported("logprobs", logprobs, no(BAD, logprobs=1)),
        supported(
            "top_logprobs",
            top_logprobs,
            no(BAD, top_logprobs=21, logprobs=True),
            no(CANNOT, top_logprobs=1),
            note="0 to 20, with `logprobs`",
        ),
        most("max_completion_tokens"),
        most("max_tokens"),
        supported(
            "metadata",
            metadata,
            no(CANNOT, metadata={str(i): "" for i in range(17)}),
            no(CANNOT, metadata={"a": "b" * 513}),
            no(CANNOT, metadata={"a" * 65: "b"}),
            note="repeated in the answer",
        ),
        *(
            supported(
                name,
                keeps_version(name, max_completion_tokens=1),
                no(BAD, **{name: 1}),
                note=WHO_ASKS,
            )
            for name in ("safety_identifier", "prompt_cache_key")
        ),
        ignored(
            "prompt_cache_options",
            "prefixes are always cached, and no answer changes",
            same(prompt_cache_options={"mode": "implicit", "ttl": "30m"}),
        ),
        partly(
            "service_tier",
            "`auto`, `default`, `flex`",
            service_tier,
            no(CANNOT, service_tier="scale"),
            no(CANNOT, service_tier="priority"),
        ),
        only("prompt_cache_retention", "24h", "in_memory"),
        only("modalities", ["audio"], ["text"]),
        only("store", True, False),
        only("verbosity", "low", "medium"),
        none_of("audio", {"voice": "x", "format": "wav"}),
        none_of("prediction", {"type": "content", "content": "x"}),
        none_of("web_search_options", {}),
        none_of("moderation", {"model": "x"}),
    ),
    (
        Reply(
            "",
            ChatCompletion,
            answers,
            (
                *HEADING,
                "metadata",
                "choices[].index",
                "choices[].finish_reason",
                "choices[].message",
                "choices[].message.role",
                "choices[].message.content",
                "choices[].message.tool_calls",
                "choices[].message.tool_calls[](function)",
                "choices[].message.tool_calls[](function).id",
                "choices[].message.tool_calls[](function).function",
                "choices[].message.tool_calls[](function).function.name",
                "choices[].message.tool_calls[](function).function.arguments",
                "choices[].message.function_call",
                "choices[].message.function_call.name",
                "choices[].message.function_call.arguments",
                *LOGPROBS,
                *USAGE_SENT,
            ),
            null=("choices[].message.refusal", "choices[].logprobs.refusal"),
            never=(
                "choices[].message.annotations",
                "choices[].message.audio",
                "choices[].message.tool_calls[](custom)",
                "moderation",
                *USAGE_NEVER,
            ),
        ),
        Reply(
            "chunks",
            ChatCompletionChunk,
            chunks,
            (
                *HEADING,
                "choices[].index",
                "choices[].finish_reason",
                "choices[].delta",
                "choices[].delta.role",
                "choices[].delta.content",
                "choices[].delta.tool_calls",
                "choices[].delta.tool_calls[].index",
                "choices[].delta.tool_calls[].id",
                "choices[].delta.tool_calls[].type",
                "choices[].delta.tool_calls[].function",
                "choices[].delta.tool_calls[].function.name",
                "choices[].delta.tool_calls[].function.arguments",
                "choices[].delta.function_call",
                "choices[].delta.function_call.name",
                "choices[].delta.function_call.arguments",
                "obfuscation",
                *LOGPROBS,
                *USAGE_SENT,
            ),
            null=("choices[].logprobs.refusal",),
            never=(
                "choices[].delta.audio",
                "choices[].delta.refusal",
                "moderation",
                *USAGE_NEVER,
            ),
        ),
    ),
)
