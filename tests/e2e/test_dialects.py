"""The Responses API and the Messages API against a real server: the same answers as chat's, by the official clients."""

import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel

from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

ASKED = "Say something."


class Verdict(BaseModel):
    fits: bool


def client_of(tenant: Tenant) -> OpenAI:
    return OpenAI(
        base_url=f"{tenant.url}/v1",
        api_key=tenant.key,
        max_retries=0,
        _strict_response_validation=True,
    )


def test_a_response_and_a_message_say_what_the_chat_says(acme: Tenant) -> None:
    with client_of(acme) as client:
        chat = client.chat.completions.create(
            model="zero",
            messages=[{"role": "user", "content": ASKED}],
            temperature=0,
            max_tokens=16,
            logprobs=True,
            top_logprobs=2,
        )
        said = chat.choices[0].message.content
        response = client.responses.create(
            model="zero",
            input=ASKED,
            temperature=0,
            max_output_tokens=16,
            top_logprobs=2,
            include=["message.output_text.logprobs"],
        )
        assert response.output_text == said
        (message,) = response.output
        assert message.type == "message"
        assert message.content[0].type == "output_text"
        assert chat.choices[0].logprobs is not None
        theirs = chat.choices[0].logprobs.content or []
        ours = message.content[0].logprobs or []
        assert [entry.token for entry in ours] == [entry.token for entry in theirs]
        # The second one finds the prompt in the cache, and rounds differently.
        wanted = [entry.logprob for entry in theirs]
        assert [entry.logprob for entry in ours] == pytest.approx(wanted, abs=1e-4)
        assert all(len(entry.top_logprobs) == 2 for entry in ours)
        assert client.responses.retrieve(response.id) == response
    with Anthropic(base_url=acme.url, api_key=acme.key, max_retries=0) as anthropic:
        body = {"temperature": 0}
        whole = anthropic.messages.create(
            model="zero",
            max_tokens=16,
            messages=[{"role": "user", "content": ASKED}],
            extra_body=body,
        )
        assert whole.content[0].type == "text"
        assert whole.content[0].text == said
        assert said is not None
        # Not a piece of a character, which has no text of its own.
        stop = next(letter for letter in said[1:] if letter.isascii())
        stopped = anthropic.messages.create(
            model="zero",
            max_tokens=16,
            messages=[{"role": "user", "content": ASKED}],
            stop_sequences=["no such text", stop],
            extra_body=body,
        )
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
        assert stopped.content[0].type == "text"
        assert stopped.content[0].text == said[: said.index(stop)]


def test_a_parsed_response_is_of_its_type(acme: Tenant) -> None:
    with client_of(acme) as client:
        parsed = client.responses.parse(
            model="zero", input=ASKED, text_format=Verdict, max_output_tokens=64
        )
        assert isinstance(parsed.output_parsed, Verdict)


def test_a_response_whose_reader_left_is_stored_as_cancelled(server: Serve, acme: Tenant) -> None:
    with client_of(acme) as client:
        stream = client.responses.create(
            model="zero",
            input=ASKED,
            max_output_tokens=12_000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        name, seen = "", ""
        for event in stream:
            if event.type == "response.created":
                name = event.response.id
            if event.type == "response.output_text.delta":
                seen += event.delta
                if len(seen) > 10:
                    break
        stream.close()

        def is_stored() -> bool:
            try:
                return client.responses.retrieve(name).status == "cancelled"
            except openai.NotFoundError:
                return False

        server.wait(is_stored)
        stored = client.responses.retrieve(name)
        assert stored.output_text.startswith(seen)
        assert stored.usage is not None
        assert 0 < stored.usage.output_tokens < 12_000
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="zero", input="And?", previous_response_id=name)
