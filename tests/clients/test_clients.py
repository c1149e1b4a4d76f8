"""LangChain, LiteLLM and llm, unchanged, against a served adapter: by whichever route they ask, they get what
transformers + PEFT say, with the right usage, calls of functions, objects of a schema, vectors, and known errors."""

import re
from typing import Any

import numpy as np
import pytest

from clients.conftest import Run
from support.serve import Tenant

pytestmark = pytest.mark.e2e

# Where the words are asked one by one, an example puts what was said to the first of them under these names.
SAID = (
    "whole",
    "streamed",
    "joined",
    "history",
    "continued",
    "chain",
    "chain_streamed",
    "completion",
    "response",
    "async",
    "async_streamed",
    "routed",
)
LISTS = ("batch", "async_batch", "turns")


@pytest.fixture(scope="session")
def units(tenant: Tenant, words: list[str]) -> list[list[float]]:
    """The words as vectors."""
    answer = tenant.http.post("/v1/embeddings", json={"model": "cipher", "input": words})
    return [item["embedding"] for item in answer.json()["data"]]


def check_answers(facts: dict[str, Any], answers: list[str], asked: set[str]) -> None:
    """Everything that was said is right; `asked` are the ways in which it has been asked for."""
    assert facts.keys() & {*SAID, *LISTS} == asked
    for name in SAID:
        assert name not in facts or facts[name].strip() == answers[0], name
    for name in LISTS:
        assert name not in facts or [text.strip() for text in facts[name]] == answers, name
    assert facts["pieces"] > 2


def check_usage(words: list[str], answers: list[str], prompt: int, output: int) -> None:
    """A token a letter: begin of text, word and arrow; a space, the answer and its end."""
    assert (prompt, output) == (len(words[0]) + 4, len(answers[0]) + 2)


def check_call(tools: dict[str, Any]) -> None:
    call = tools["call"]
    assert call["name"] == "switch"
    assert re.fullmatch(r"call_\w+", call["id"])
    assert call["args"].keys() == {"on", "unit"}
    assert call["args"]["on"] in (True, False)
    assert call["args"]["unit"] in ("c", "f")
    # Greedy: the pieces add up to the same call.
    assert tools["streamed_calls"] == [["switch", call["args"]]]
    assert tools["reason"] == "tool_calls"
    assert tools["after"] == []


def check_object(value: dict[str, Any]) -> None:
    assert value.keys() == {"fits", "color"}
    assert value["fits"] in (True, False)
    assert value["color"] in ("red", "blue")


def check_vectors(found: list[list[float]], units: list[list[float]]) -> None:
    np.testing.assert_allclose(found, units, atol=1e-4)


def test_langchain(
    run_example: Run, words: list[str], answers: list[str], units: list[list[float]]
) -> None:
    facts = run_example("langchain")
    check_answers(facts, answers, {*SAID, *LISTS} - {"joined", "continued", "routed", "turns"})
    for usage in (facts["usage"], facts["streamed_usage"]):
        check_usage(words, answers, usage["input_tokens"], usage["output_tokens"])
    assert facts["metadata"]["model_name"] == "cipher"
    assert facts["metadata"]["finish_reason"] == facts["streamed_reason"] == "stop"
    letters = [entry["token"] for entry in facts["logprobs"]]
    assert "".join(letters[:-1]).strip() == answers[0]
    assert all(len(entry["top_logprobs"]) == 2 for entry in facts["logprobs"])
    check_call(facts["tools"])
    assert facts["tools"]["is_result"]
    for value in facts["structured"].values():
        check_object(value)
    check_vectors([*facts["vectors"]["documents"], facts["vectors"]["query"]], [*units, units[0]])
    assert facts["refused"] == "model_not_found"


def test_litellm(
    run_example: Run, words: list[str], answers: list[str], units: list[list[float]]
) -> None:
    facts = run_example("litellm")
    check_answers(
        facts,
        answers,
        {*SAID, "batch"} - {"joined", "continued", "chain", "chain_streamed"},
    )
    for usage in (facts["usage"], facts["streamed_usage"]):
        check_usage(words, answers, usage["prompt_tokens"], usage["completion_tokens"])
    assert facts["reason"] == facts["streamed_reason"] == "stop"
    check_call(facts["tools"])
    check_object(facts["structured"])
    check_vectors(facts["vectors"]["documents"], units)
    assert facts["vectors"]["tokens"] == sum(len(word) + 1 for word in words)
    assert facts["refused"] == 404


def test_llm(
    run_example: Run, words: list[str], answers: list[str], units: list[list[float]]
) -> None:
    facts = run_example("llm")
    check_answers(
        facts,
        answers,
        {
            "whole",
            "streamed",
            "joined",
            "continued",
            "completion",
            "response",
            "async_streamed",
            "turns",
        },
    )
    check_usage(words, answers, *facts["usage"])
    assert facts["one_conversation"]
    assert [(prompt, text.strip()) for prompt, text in facts["logged"]] == [
        (words[1], answers[1]),
        (words[0], answers[0]),
    ]
    check_object(facts["structured"])
    check_vectors([*facts["vectors"], facts["vector"]], [*units, units[0]])
