"""Every documented field of the Responses API is honoured as a field of the chat, or refused by its name."""

import json

import msgspec
import pytest
from openai.types.responses import response_create_params
from openai.types.responses.input_token_count_params import InputTokenCountParams

from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.responses.chat import chat_of
from loraplex.platform.responses.checks import check_input, check_response
from loraplex.platform.responses.conversation import messages
from loraplex.platform.responses.reading import read_input
from loraplex.platform.responses.schemas import ResponseRequest, TokensRequest

BODY: dict[str, object] = {"model": "m", "input": "Hi"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def read(body: dict[str, object]) -> ChatRequest:
    request = decode_body(json.dumps(body).encode(), ResponseRequest)
    check_response(request)
    return chat_of(request, read_input(request.input))


def test_every_field_of_the_client_is_known() -> None:
    base = response_create_params.ResponseCreateParamsBase.__annotations__
    theirs = {*base, "stream"}
    assert theirs - set(ResponseRequest.__struct_fields__) == set()
    counted = set(InputTokenCountParams.__annotations__)
    assert counted == set(TokensRequest.__struct_fields__)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"background_options": {}}, "background_options"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {}}, "moderation"),
        ({"access_programs": {}}, "access_programs"),
        ({"image": {}}, "image"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "concise"}}, "reasoning.generate_summary"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "function"}]}, "tools[1].name"),
        ({"tools": [{**TOOL, "output_schema": {}}]}, "tools[0].output_schema"),
        ({"tools": [{**TOOL, "allowed_callers": ["direct"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"type": "function_call_output", "output": "x"}]},
            "input[0].call_id",
        ),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        read({**BODY, **fields})
    assert refused.value.param == param
    assert param in refused.value.message


def test_what_counts_for_nothing_is_refused_when_counting_too() -> None:
    request = decode_body(b'{"model": "m", "input": "x", "conversation": "c"}', TokensRequest)
    with pytest.raises(BadRequestError, match="conversation"):
        check_input(request)
    request = decode_body(b'{"model": "m", "input": "x", "personality": "friendly"}', TokensRequest)
    with pytest.raises(BadRequestError, match="personality"):
        check_input(request)


def test_fields_become_the_chats() -> None:
    chat = read(
        {
            **BODY,
            "instructions": "Be brief.",
            "max_output_tokens": 99,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_logprobs": 3,
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
            "metadata": {"a": "b"},
            "user": "u",
            "safety_identifier": "s",
            "prompt_cache_key": "k",
            "service_tier": "auto",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {
                "verbosity": "low",
                "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
            },
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "f"},
            "seed": 7,
            "ignore_eos": True,
        }
    )
    body = json.loads(msgspec.json.encode(chat))
    wanted = {
        "max_completion_tokens": 99,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 3,
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "verbosity": "low",
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "seed": 7,
        "ignore_eos": True,
    }
    assert {name: body[name] for name in wanted} == wanted
    form = body["response_format"]["json_schema"]
    assert (form["name"], form["schema"], form["strict"]) == ("n", {}, True)
    function = body["tools"][0]["function"]
    assert (function["name"], function["parameters"]) == ("f", {"type": "object"})
    assert function["strict"] is True
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert json.loads(msgspec.json.encode(read(BODY)))["logprobs"] is None


def test_a_turn_of_the_model_is_one_message() -> None:
    given = [
        {"role": "developer", "content": [{"type": "input_text", "text": "D"}]},
        {"role": "user", "content": "Q"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "T"}],
            "encrypted_content": None,
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "A", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "two"}],
        },
        {"role": "assistant", "content": "B"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    items = read_input(msgspec.Raw(json.dumps(given).encode()))
    assert len({item.id for item in items}) == len(given)
    found = messages(None, items)
    assert [message.role for message in found] == [
        "developer",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "assistant",
    ]
    turn = found[2]
    assert (turn.content, turn.reasoning_content) == ("A", "T")
    assert [call.id for call in turn.tool_calls or ()] == ["c1", "c2"]
    assert [(m.tool_call_id, m.content) for m in found[3:5]] == [("c1", "one"), ("c2", "two")]
    assert [m.content for m in found[5:]] == ["B", "No."]
