"""LiteLLM's ordinary examples against a served adapter; prints as JSON what they gave.

Run by an interpreter of its own, which has litellm: URL and KEY, then the words to ask.
"""

# What it imports is installed in another environment.
# mypy: ignore-errors

import asyncio
import json
import sys
from typing import Literal

import litellm
from pydantic import BaseModel

URL, KEY, *WORDS = sys.argv[1:]
WORD = WORDS[0]
WHERE = {"api_base": URL, "api_key": KEY, "max_retries": 0}
BRIEF = {"temperature": 0, "max_tokens": 20, "stop": ["\n"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "switch",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "unit": {"enum": ["c", "f"]}},
            "required": ["on", "unit"],
            "additionalProperties": False,
        },
    },
}


class Verdict(BaseModel):
    """What is thought of a word."""

    fits: bool
    color: Literal["red", "blue"]


def said(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]


def asking() -> dict[str, object]:
    """One question, several, in pieces, with a history; by the routes of three generations."""
    question = {"model": "openai/cipher", **WHERE, **BRIEF}
    whole = litellm.completion(messages=said(WORD), **question)
    pieces = list(
        litellm.completion(
            messages=said(WORD), stream=True, stream_options={"include_usage": True}, **question
        )
    )
    built = litellm.stream_chunk_builder(pieces)
    earlier = litellm.completion(messages=said(WORDS[1]), **question).choices[0].message
    history = [*said(WORDS[1]), earlier, *said(WORD)]
    several = litellm.batch_completion(messages=[said(word) for word in WORDS], **question)
    older = litellm.text_completion(
        prompt=f"{WORD} ->", **{**question, "model": "text-completion-openai/cipher"}
    )
    newer = litellm.responses(
        model="openai/cipher", input=WORD, temperature=0, max_output_tokens=20, **WHERE
    )
    return {
        "whole": whole.choices[0].message.content,
        "reason": whole.choices[0].finish_reason,
        "usage": whole.usage.model_dump(),
        "pieces": len(pieces),
        "streamed": built.choices[0].message.content,
        "streamed_reason": built.choices[0].finish_reason,
        "streamed_usage": built.usage.model_dump(),
        "history": litellm.completion(messages=history, **question).choices[0].message.content,
        "batch": [answer.choices[0].message.content for answer in several],
        "completion": older.choices[0].text,
        "response": newer.output[0].content[0].text,
    }


async def asking_async() -> dict[str, object]:
    """The same from an event loop."""
    question = {"model": "openai/cipher", **WHERE, **BRIEF}
    whole = await litellm.acompletion(messages=said(WORD), **question)
    pieces = await litellm.acompletion(messages=said(WORD), stream=True, **question)
    return {
        "async": whole.choices[0].message.content,
        "async_streamed": "".join([piece.choices[0].delta.content or "" async for piece in pieces]),
    }


def routed() -> str:
    """Through LiteLLM's router, under a name of its own."""
    deployment = {"model_name": "shift", "litellm_params": {"model": "openai/cipher", **WHERE}}
    router = litellm.Router(model_list=[deployment], num_retries=0)
    return router.completion(model="shift", messages=said(WORD), **BRIEF).choices[0].message.content


def calling() -> dict[str, object]:
    """A function is called, whole and in pieces, and its result goes back to the model."""
    question = {"model": "openai/caller", "tools": [TOOL], "temperature": 0, **WHERE}
    named = {"type": "function", "function": {"name": "switch"}}
    asked = litellm.completion(
        messages=said("Is it warm?"), tool_choice=named, max_tokens=200, **question
    )
    message = asked.choices[0].message
    (call,) = message.tool_calls
    built = litellm.stream_chunk_builder(
        list(
            litellm.completion(
                messages=said("Is it warm?"),
                tool_choice=named,
                max_tokens=200,
                stream=True,
                **question,
            )
        )
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    after = litellm.completion(
        messages=[*said("Is it warm?"), message, result],
        tool_choice="none",
        max_tokens=4,
        **question,
    )
    return {
        "call": {
            "name": call.function.name,
            "args": json.loads(call.function.arguments),
            "id": call.id,
        },
        "reason": asked.choices[0].finish_reason,
        "streamed_calls": [
            (call.function.name, json.loads(call.function.arguments))
            for call in built.choices[0].message.tool_calls
        ],
        "after": after.choices[0].message.tool_calls or [],
    }


def structured() -> dict[str, object]:
    """An object of a class."""
    answer = litellm.completion(
        model="openai/caller",
        messages=said("Does it fit?"),
        response_format=Verdict,
        temperature=0,
        max_tokens=200,
        **WHERE,
    )
    return Verdict.model_validate_json(answer.choices[0].message.content).model_dump()


def vectors() -> dict[str, object]:
    """Texts as vectors."""
    answer = litellm.embedding(model="openai/cipher", input=WORDS, **WHERE)
    return {
        "documents": [item["embedding"] for item in answer.data],
        "tokens": answer.usage.prompt_tokens,
    }


def refused() -> object:
    """What a name that nobody serves raises."""
    try:
        litellm.completion(model="openai/nobody", messages=said(WORD), **WHERE)
    except litellm.NotFoundError as error:
        return error.status_code
    return "answered"


if __name__ == "__main__":
    facts = {
        **asking(),
        **asyncio.run(asking_async()),
        "routed": routed(),
        "tools": calling(),
        "structured": structured(),
        "vectors": vectors(),
        "refused": refused(),
    }
    print(json.dumps(facts))
