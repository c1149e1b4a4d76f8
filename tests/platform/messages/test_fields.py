"""Every documented field of the Messages API is honoured as a field of the chat, or refused by its name; and what a
message is made of, as Anthropic's own types read it."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from anthropic.types import Message as TheirMessage
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from pydantic import TypeAdapter

from loraplex.engine.request import FinishReason
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.body import decode_body
from loraplex.platform.engines.generation import Generation, GenerationFailedError, Job
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.chat_events import (
    ArgumentsDelta,
    CallBegin,
    ChatEvent,
    ChatReader,
    Finish,
    PlainReader,
    ReasoningDelta,
    TextDelta,
)
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.messages.chat import chat_of, of_messages
from loraplex.platform.messages.checks import check_messages
from loraplex.platform.messages.schemas import CountRequest, MessagesRequest
from loraplex.platform.messages.service import MessageDelivery
from loraplex.platform.messages.writer import MessageWriter
from support.dialects import ScriptedReader, delta

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
BODY: dict[str, object] = {
    "model": "m",
    "max_tokens": 2000,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def read(body: dict[str, object]) -> ChatRequest:
    request = decode_body(json.dumps(body).encode(), MessagesRequest)
    check_messages(request)
    return chat_of(request)


def said(*blocks: dict[str, object], role: str = "user") -> dict[str, object]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


def test_every_field_of_the_client_is_known() -> None:
    theirs = {*MessageCreateParamsBase.__annotations__, "stream"}
    assert theirs - set(MessagesRequest.__struct_fields__) == set()
    counted = set(MessageCountTokensParams.__annotations__)
    assert counted - set(CountRequest.__struct_fields__) == set()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"temperature": 1.5}, "temperature"),
        ({"container": "c"}, "container"),
        ({"context_management": {}}, "context_management"),
        ({"diagnostics": {}}, "diagnostics"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"user_profile_id": "u"}, "user_profile_id"),
        ({"workspace_id": "w"}, "workspace_id"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"speed": "fast"}, "speed"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "thinking.display"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "auto", "name": "f"}}, "tool_choice.name"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{**TOOL, "input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"tools": [{**TOOL, "allowed_callers": ["direct"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        (said({"type": "image", "source": {}}), "messages[0].content[0].type"),
        (said({"type": "document", "source": {}}), "messages[0].content[0].type"),
        (said({"type": "tool_use"}), "messages[0].content[0].type"),
        (said({"type": "text"}), "messages[0].content[0].text"),
        (said({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (
            said({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}),
            "messages[0].content[0].content[0].type",
        ),
        (said({"type": "redacted_thinking"}, role="assistant"), "messages[0].content[0].type"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        read({**BODY, **fields})
    assert refused.value.param == param
    assert param in refused.value.message


def test_fields_become_the_chats() -> None:
    chat = read(
        {
            **BODY,
            "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
            "stop_sequences": ["END"],
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 7,
            "metadata": {"user_id": "u"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "tools": [{**TOOL, "type": "custom", "description": "d", "strict": True}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "cache_control": {"type": "ephemeral"},
            "service_tier": "auto",
            "speed": "standard",
        }
    )
    body = json.loads(msgspec.json.encode(chat))
    wanted = {
        "max_completion_tokens": 2000,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "user": "u",
        "reasoning_effort": "medium",
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    assert {name: body[name] for name in wanted} == wanted
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    function = body["tools"][0]["function"]
    assert (function["name"], function["description"], function["strict"]) == ("f", "d", True)
    assert function["parameters"] == {"type": "object"}
    named = read({**BODY, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}})
    choice = json.loads(msgspec.json.encode(named))["tool_choice"]
    assert choice == {"type": "function", "function": {"name": "f"}}
    off = read({**BODY, "thinking": {"type": "disabled"}})
    assert off.reasoning_effort == "none"


def test_blocks_become_messages_in_their_order() -> None:
    content = [
        {"role": "user", "content": "Q"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "T", "signature": ""},
                {"type": "text", "text": "A"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": [1, None]}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": True,
                    "content": [{"type": "text", "text": "two"}],
                },
                {"type": "text", "text": "And"},
                {"type": "text", "text": "now?"},
            ],
        },
        {"role": "assistant", "content": "So"},
    ]
    chat = read({**BODY, "messages": content})
    found = [(m.role, m.content, m.tool_call_id) for m in chat.messages]
    assert found == [
        ("user", "Q", None),
        ("assistant", "A", None),
        ("tool", "one", "t1"),
        ("tool", "Error: two", "t2"),
        ("user", "And\nnow?", None),
        ("assistant", "So", None),
    ]
    turn = chat.messages[1]
    assert turn.reasoning_content == "T"
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in turn.tool_calls or ()
    ]
    assert calls == [("t1", "f", {"x": [1, None]}), ("t2", "g", {})]
    # What the assistant has begun is gone on with.
    assert chat.continue_final_message


def test_errors_of_the_chat_are_named_as_fields_of_the_message() -> None:
    for theirs, ours in (
        ("max_completion_tokens", "max_tokens"),
        ("stop", "stop_sequences"),
        ("messages[3].content", "messages"),
        ("tools[1].function.parameters", "tools[1].input_schema"),
        ("tools[1].function.name", "tools[1].name"),
    ):
        known = of_messages(BadRequestError(f"{theirs} is wrong.", param=theirs))
        assert (known.param, known.message) == (ours, f"{ours} is wrong.")


class Letters(Tokenizer):
    """Token i is character i of a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(self._text[i] for i in ids)


def writer(
    reader: ChatReader, *, streams: bool, stops: Sequence[str] = (), vocabulary: str = ""
) -> MessageWriter:
    tokenizer = Letters(vocabulary)
    return MessageWriter(Heading("msg_1", 1, "m", "fp"), reader, tokenizer, stops, streams=streams)


def test_thoughts_text_and_calls_are_blocks_of_their_own() -> None:
    told: list[list[ChatEvent]] = [
        [ReasoningDelta("Hm"), ReasoningDelta(".")],
        [TextDelta("I ask."), CallBegin(0, "call_1", "f"), ArgumentsDelta(0, '{"a":')],
        [ArgumentsDelta(0, " 1}"), CallBegin(1, "call_2", "g"), Finish("tool_calls")],
    ]
    making = writer(ScriptedReader(told), streams=True)
    for i in range(3):
        making.see(delta("x", i + 1, FinishReason.STOP if i == 2 else None))
    frames = (making.take() + making.closing()).decode().split("\n\n")
    events = []
    for frame in filter(None, frames):
        name, data = frame.split("\n")
        events.append(EVENT.validate_json(data.removeprefix("data: ")))
        assert name == f"event: {events[-1].type}"
    starts = [e.content_block.type for e in events if e.type == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use", "tool_use"]
    assert [e.index for e in events if e.type == "content_block_stop"] == [0, 1, 2, 3]
    ending = events[-2]
    assert (ending.delta.stop_reason, ending.usage.output_tokens) == ("tool_use", 3)
    whole = writer(ScriptedReader([[e for part in told for e in part]]), streams=False)
    whole.see(delta("x", 3, FinishReason.STOP))
    message = TheirMessage.model_validate_json(msgspec.json.encode(whole.answer))
    assert [block.type for block in message.content] == starts
    assert message.content[2].input == {"a": 1}  # type: ignore[union-attr]
    assert message.content[3].input == {}  # type: ignore[union-attr]
    # Five tokens of the prompt, two of them from the cache.
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (3, 2)


def test_arguments_that_are_no_object_are_handed_on() -> None:
    script: list[list[ChatEvent]] = [
        [CallBegin(0, "call_1", "f"), ArgumentsDelta(0, "not js"), Finish("tool_calls")]
    ]
    making = writer(ScriptedReader(script), streams=False)
    making.see(delta("x", 1, FinishReason.STOP))
    (block,) = json.loads(msgspec.json.encode(making.answer))["content"]
    assert block["input"] == {"arguments": "not js"}


@pytest.mark.parametrize(
    ("tokens", "handed", "stop"),
    [
        ("abEND", "ab", "END"),
        ("abc", "abc", None),  # by the model itself
        ("aENd.", "aENd", "."),  # what only began like one is text
        ("END", "", "END"),
    ],
)
def test_the_stop_sequence_that_ended_it_is_named(
    tokens: str, handed: str, stop: str | None
) -> None:
    making = writer(PlainReader(), streams=False, stops=["END", "."], vocabulary=tokens)
    ids = tuple(range(len(tokens)))
    last = msgspec.structs.replace(delta(handed, len(ids), FinishReason.STOP), token_ids=ids)
    making.see(last)
    assert making.answer.stop_sequence == stop
    assert making.answer.stop_reason == ("end_turn" if stop is None else "stop_sequence")


async def test_an_error_in_mid_stream_is_the_last_event() -> None:
    running = Generation([Job((1,), SamplingParams())], lambda _: None)
    making = MessageDelivery(running, writer(PlainReader(), streams=True), "req_1")
    stream = making.frames()
    running.push(running.slots[0], delta("a"))
    await anext(stream)
    running.fail(GenerationFailedError("It broke."))
    (last,) = [frame async for frame in stream]
    name, data = last.decode().strip().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "It broke."},
        "request_id": "req_1",
    }
