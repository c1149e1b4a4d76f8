"""LangChain's ordinary examples against a served adapter; prints as JSON what they gave.

Run by an interpreter of its own, which has langchain-openai: URL and KEY, then the words to ask.
"""

# What it imports is installed in another environment.
# mypy: ignore-errors

import asyncio
import json
import sys
from typing import Literal

import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

URL, KEY, *WORDS = sys.argv[1:]
WORD = WORDS[0]


class Verdict(BaseModel):
    """What is thought of a word."""

    fits: bool
    color: Literal["red", "blue"] = Field(description="How it looks")


@tool
def switch(on: bool, unit: Literal["c", "f"]) -> str:
    """Switch the heating."""
    return f"{unit} is {'on' if on else 'off'}"


def chat(model: str, **options: object) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=URL, api_key=KEY, temperature=0, max_retries=0, **options
    )


def asking() -> dict[str, object]:
    """One question, several, in pieces, in a chain, with a history."""
    # With another base URL than OpenAI's it asks for the usage of a stream only when told to.
    model = chat("cipher", max_tokens=20, stop_sequences=["\n"], stream_usage=True)
    whole = model.invoke(WORD)
    pieces = list(model.stream(WORD))
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    chain = ChatPromptTemplate.from_messages([("human", "{word}")]) | model | StrOutputParser()
    history = [HumanMessage(WORDS[1]), AIMessage(model.invoke(WORDS[1]).content.strip())]
    return {
        "whole": whole.content,
        "usage": whole.usage_metadata,
        "metadata": whole.response_metadata,
        "pieces": len(pieces),
        "streamed": total.content,
        "streamed_usage": total.usage_metadata,
        "streamed_reason": total.response_metadata["finish_reason"],
        "batch": [answer.content for answer in model.batch(WORDS)],
        "chain": chain.invoke({"word": WORD}),
        "chain_streamed": "".join(chain.stream({"word": WORD})),
        "history": model.invoke([*history, HumanMessage(WORD)]).content,
        "logprobs": model.bind(logprobs=True, top_logprobs=2)
        .invoke(WORD)
        .response_metadata["logprobs"]["content"],
        "completion": OpenAI(
            model="cipher", base_url=URL, api_key=KEY, temperature=0, max_tokens=20, max_retries=0
        ).invoke(f"{WORD} ->", stop=["\n"]),
        "response": chat("cipher", max_tokens=20, use_responses_api=True).invoke(WORD).text,
    }


async def asking_async() -> dict[str, object]:
    """The same from an event loop."""
    model = chat("cipher", max_tokens=20, stop_sequences=["\n"])
    return {
        "async": (await model.ainvoke(WORD)).content,
        "async_batch": [answer.content for answer in await model.abatch(WORDS)],
        "async_streamed": "".join([piece.content async for piece in model.astream(WORD)]),
    }


def calling() -> dict[str, object]:
    """A function is called, whole and in pieces, and its result goes back to the model."""
    model = chat("caller", max_tokens=200)
    bound = model.bind_tools([switch], tool_choice="switch", strict=True)
    question = HumanMessage("Is it warm?")
    asked = bound.invoke([question])
    (call,) = asked.tool_calls
    pieces = list(bound.stream([question]))
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    result = switch.invoke(call)
    rest = model.bind_tools([switch], tool_choice="none").bind(max_tokens=4)
    return {
        "call": {"name": call["name"], "args": call["args"], "id": call["id"]},
        "reason": asked.response_metadata["finish_reason"],
        "streamed_calls": [(call["name"], call["args"]) for call in total.tool_calls],
        "result": result.content,
        "is_result": isinstance(result, ToolMessage),
        "after": rest.invoke([question, asked, result]).tool_calls,
    }


def structured() -> dict[str, object]:
    """An object of a class, by a schema and by a function."""
    found = {}
    for method in ("json_schema", "function_calling"):
        model = chat("caller", max_tokens=200).with_structured_output(Verdict, method=method)
        answer = model.invoke("Does it fit?")
        found[method] = answer.model_dump()
    return found


def vectors() -> dict[str, object]:
    """Texts as vectors. Counting tokens on its own is switched off, as for every model that is not OpenAI's."""
    model = OpenAIEmbeddings(
        model="cipher", base_url=URL, api_key=KEY, check_embedding_ctx_length=False, max_retries=0
    )
    return {"documents": model.embed_documents(WORDS), "query": model.embed_query(WORD)}


def refused() -> str:
    """What a name that nobody serves raises."""
    try:
        chat("nobody").invoke(WORD)
    except openai.NotFoundError as error:
        return error.code
    return "answered"


if __name__ == "__main__":
    print(
        json.dumps(
            {
                **asking(),
                **asyncio.run(asking_async()),
                "tools": calling(),
                "structured": structured(),
                "vectors": vectors(),
                "refused": refused(),
            }
        )
    )
