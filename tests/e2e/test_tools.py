"""Function calls with the official client: a random model made to call, and what is made of its calls."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from support import chat_templates
from support.serve import Serve

pytestmark = pytest.mark.e2e

Json = Any  # typed as a client sends it

FLAGS: Json = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "unit": {"enum": ["c", "f"]}},
    "required": ["on", "unit"],
    "additionalProperties": False,
}
TOOLS: Json = [
    {"type": "function", "function": {"name": "switch", "parameters": FLAGS}},
    {"type": "function", "function": {"name": "clock", "parameters": {"enum": [{}]}}},
]
ASK: Json = [{"role": "user", "content": "Do something."}]


@pytest.fixture(scope="module")
def client(server: Serve, adapters: list[Path]) -> Iterator[OpenAI]:
    """Of a tenant whose adapters write calls as three families do."""
    tenant = server.tenant("callers")
    for name in ("hermes", "llama3", "mistral"):
        template = chat_templates.ALL[name]
        assert tenant.push(name, adapters[0], chat_template=template).status_code == 201
    with OpenAI(base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("adapter", ["hermes", "llama3", "mistral"])
def test_a_named_function_is_called_with_arguments_that_fit(client: OpenAI, adapter: str) -> None:
    choice: Json = {"type": "function", "function": {"name": "switch"}}
    answer = client.chat.completions.create(
        model=adapter, messages=ASK, tools=TOOLS, tool_choice=choice, max_tokens=300
    )
    calls: Json = answer.choices[0].message.tool_calls
    (call,) = calls
    assert call.type == "function"
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert call.id.startswith("call_")
    assert call.function.name == "switch"
    arguments = json.loads(call.function.arguments)
    assert arguments["unit"] in ("c", "f")
    assert arguments["on"] in (True, False)


def test_a_streamed_call_adds_up_and_goes_back_to_the_model(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="hermes",
        messages=ASK,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=300,
        seed=1,
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    calls: Json = message.tool_calls
    (call,) = calls
    json.loads(call.function.arguments)
    result: Json = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    said: Json = message.model_dump(exclude_none=True, exclude={"parsed"})
    answer = client.chat.completions.create(
        model="hermes",
        messages=[*ASK, said, result],
        tools=TOOLS,
        tool_choice="none",
        max_tokens=4,
    )
    assert answer.choices[0].message.tool_calls is None


def test_the_older_way_to_ask_is_answered_in_the_older_way(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="hermes",
        messages=ASK,
        functions=[TOOLS[0]["function"]],
        function_call={"name": "switch"},
        max_tokens=300,
    )
    assert answer.choices[0].finish_reason == "function_call"
    called = answer.choices[0].message.function_call
    assert called is not None
    assert called.name == "switch"


def test_a_model_that_knows_no_functions_refuses_them(server: Serve, client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as error:
        client.chat.completions.create(model=server.base, messages=ASK, tools=TOOLS, max_tokens=1)
    assert (error.value.param, error.value.code) == ("tools", "unsupported_value")
