"""Structured output as programs ask for it: the OpenAI client's parse helpers, streams, adapters and extras."""

import json
import re
from enum import StrEnum
from typing import Annotated, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from support.serve import Tenant

pytestmark = pytest.mark.e2e

MESSAGES = [{"role": "user", "content": "Say something."}]


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Owner(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=8)]
    age: Annotated[int, Field(ge=0, le=120)] | None


class Cat(BaseModel):
    kind: Literal["cat"]
    color: Color


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: Annotated[float, Field(gt=0, lt=90)]


class Household(BaseModel):
    owner: Owner
    pets: Annotated[list[Cat | Dog], Field(min_length=1, max_length=3)]
    indoors: bool


def client_of(tenant: Tenant) -> OpenAI:
    return OpenAI(base_url=f"{tenant.url}/v1", api_key=tenant.key, max_retries=0)


@pytest.mark.parametrize("name", ["org/tiny", "one"])
def test_the_parse_helper_gives_objects(acme: Tenant, name: str) -> None:
    with client_of(acme) as client:
        answer = client.chat.completions.parse(
            model=name,
            messages=MESSAGES,  # type: ignore[arg-type]  # plain dictionaries
            response_format=Household,
            n=2,
            seed=3,
            max_completion_tokens=2000,
        )
        for choice in answer.choices:
            assert choice.finish_reason == "stop"
            assert isinstance(choice.message.parsed, Household)
        assert answer.choices[0].message.content != answer.choices[1].message.content


def test_a_stream_is_json_too(acme: Tenant) -> None:
    with (
        client_of(acme) as client,
        client.chat.completions.stream(
            model="zero",
            messages=MESSAGES,  # type: ignore[arg-type]  # as above
            response_format=Owner,
            seed=1,
        ) as stream,
    ):
        assert sum(event.type == "content.delta" for event in stream) > 3
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Owner)


def test_the_extras(acme: Tenant) -> None:
    def ask(**structured: object) -> str:
        with client_of(acme) as client:
            answer = client.completions.create(
                model="one",
                prompt="x",
                max_tokens=400,
                seed=5,
                extra_body={"structured_outputs": structured},
            )
            assert answer.choices[0].finish_reason == "stop"
            return answer.choices[0].text

    assert re.fullmatch(r"\d{4}-[a-f]{2}", ask(regex=r"\d{4}-[a-f]{2}"))
    assert ask(choice=["yes", "no"]) in ("yes", "no")
    assert ask(grammar='root ::= "(" root ")" | "()"').count("(") > 0
    assert json.loads(ask(json={"const": {"a": [1]}})) == {"a": [1]}


@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_cannot_be_is_a_wrong_request(acme: Tenant, stream: bool) -> None:
    with client_of(acme) as client, pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(
            model="one",
            prompt="x",
            stream=stream,
            extra_body={"structured_outputs": {"grammar": "root ::= nothing"}},
        )
    assert refused.value.param == "structured_outputs.grammar"
    assert refused.value.code == "invalid_value"
    assert "nothing" in refused.value.message
