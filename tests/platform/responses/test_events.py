"""What a response is made of, as OpenAI's own types read it, and what is kept however its stream ends."""

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response as TheirResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from loraplex.engine.request import FinishReason, TokenLogprob
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.generation import Generation, GenerationFailedError, Job
from loraplex.platform.errors import NotFoundError, PlatformError
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
from loraplex.platform.inference.streaming import ReaderGoneError
from loraplex.platform.responses.bodies import Response
from loraplex.platform.responses.delivery import Keep, ResponseDelivery
from loraplex.platform.responses.transcript import Transcript
from loraplex.platform.responses.writer import ResponseWriter
from support.dialects import ScriptedReader, begun_response, delta

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
THINKS_TALKS_CALLS: list[list[ChatEvent]] = [
    [ReasoningDelta("Hm")],
    [ReasoningDelta("."), TextDelta("I ask.")],
    [CallBegin(0, "call_1", "f"), ArgumentsDelta(0, "{"), ArgumentsDelta(0, "}")],
    [CallBegin(1, "call_2", "g"), ArgumentsDelta(1, '{"a": 1}'), Finish("tool_calls")],
]


def delivery(
    reader: ChatReader, keep: Keep, *, streams: bool = True, logprobs: bool = False
) -> tuple[ResponseDelivery, Generation]:
    running = Generation([Job((1,), SamplingParams())], lambda _: None)
    transcript = Transcript(begun_response(), streams=streams, logprobs=logprobs)
    # One that has no vocabulary: only texts are asked of it.
    tokenizer = Tokenizer.__new__(Tokenizer)
    return ResponseDelivery(running, ResponseWriter(transcript, reader, tokenizer), keep), running


def events(frames: bytes) -> list[Any]:
    """Each as OpenAI's types read it; the line in front of each names its type."""
    found = []
    for frame in frames.decode().split("\n\n"):
        if frame and not frame.startswith(":"):
            name, data = frame.split("\n")
            assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
            found.append(EVENT.validate_json(data.removeprefix("data: "), strict=False))
    return found


class Kept:
    """Notes what is kept, or does not keep it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.responses: list[dict[str, Any]] = []
        self._error = error

    async def __call__(self, response: Response) -> None:
        if self._error is not None:
            raise self._error
        self.responses.append(json.loads(msgspec.json.encode(response)))


async def test_thoughts_text_and_calls_are_items_with_events_of_their_own() -> None:
    kept = Kept()
    making, running = delivery(ScriptedReader(THINKS_TALKS_CALLS, reasoning_tokens=2), kept)
    frames = b""
    stream = making.frames()
    for i in range(4):
        last = FinishReason.STOP if i == 3 else None
        running.push(running.slots[0], delta("x", i + 1, last))
        frames += await anext(stream)
    frames += b"".join([frame async for frame in stream])
    told = events(frames)
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert [event.type.removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [e.output_index for e in told if e.type == "response.output_item.done"] == [0, 1, 2, 3]
    final = told[-1].response
    assert kept.responses == [final.model_dump(mode="json", exclude_unset=True)]
    thoughts, message, first, second = final.output
    assert thoughts.content[0].text == "Hm."
    assert message.content[0].text == "I ask."
    assert (first.call_id, first.name, first.arguments) == ("call_1", "f", "{}")
    assert (second.call_id, second.arguments, second.status) == ("call_2", '{"a": 1}', "completed")
    assert final.usage.output_tokens_details.reasoning_tokens == 2
    assert (final.usage.input_tokens, final.usage.input_tokens_details.cached_tokens) == (5, 2)


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        (ReaderGoneError("Gone."), "cancelled", "response.output_item.done"),
        (GenerationFailedError("It broke."), "failed", "response.failed"),
    ],
)
async def test_a_broken_stream_keeps_what_was_handed_over(
    error: PlatformError, status: str, last: str
) -> None:
    kept = Kept()
    making, running = delivery(PlainReader(), kept)
    stream = making.frames()
    running.push(running.slots[0], delta("half a sen"))
    frames = await anext(stream)
    running.fail(error)
    frames += b"".join([frame async for frame in stream])
    assert events(frames)[-1].type == last
    (stored,) = kept.responses
    theirs = TheirResponse.model_validate(stored)
    assert (theirs.status, theirs.output_text) == (status, "half a sen")
    assert theirs.output[0].status == "incomplete"  # type: ignore[union-attr]
    assert theirs.usage is not None
    assert theirs.usage.output_tokens == 1
    assert (theirs.error and theirs.error.message) == ("It broke." if status == "failed" else None)
    assert theirs.completed_at is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(PoolTimeoutError(), "database_unavailable"), (NotFoundError("No tenant."), "not_found")],
)
async def test_what_cannot_be_kept_is_not_said_to_be_complete(error: Exception, code: str) -> None:
    making, running = delivery(PlainReader(), Kept(error))
    running.push(running.slots[0], delta("a", 1, FinishReason.STOP))
    told = events(b"".join([frame async for frame in making.frames()]))
    assert (told[-1].type, told[-1].code) == ("error", code)
    assert "response.completed" not in [event.type for event in told]
    whole, _ = delivery(PlainReader(), Kept(error), streams=False)
    with pytest.raises(type(error)):
        await whole.whole([delta("a", 1, FinishReason.STOP)])


async def test_a_whole_response_is_the_one_its_stream_ends_with() -> None:
    kept = Kept()
    making, _ = delivery(PlainReader(), kept, streams=False)
    body = json.loads(await making.whole([delta("all", 3, FinishReason.LENGTH)]))
    assert kept.responses == [body]
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    nothing, _ = delivery(PlainReader(), kept, streams=False)
    empty = json.loads(await nothing.whole([delta("", 1, FinishReason.STOP)]))
    assert TheirResponse.model_validate(empty).output_text == ""
    assert len(empty["output"]) == 1


async def test_log_probabilities_are_of_the_text_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tokenizer, "token_text", lambda _, token: chr(96 + token))
    script: list[list[ChatEvent]] = [[ReasoningDelta("ab"), TextDelta("cd")], [Finish("stop")]]
    making, _ = delivery(
        ScriptedReader(script, reasoning_tokens=2), Kept(), streams=False, logprobs=True
    )
    entries = tuple(TokenLogprob(token, -1.0, ((token, -1.0),)) for token in range(1, 5))
    writer = making._writer
    writer.see(msgspec.structs.replace(delta("abcd"), logprobs=entries))
    ending = (TokenLogprob(5, -2.0, ()),)
    body = json.loads(
        await making.whole(
            [msgspec.structs.replace(delta("", 5, FinishReason.STOP), logprobs=ending)]
        )
    )
    logprobs = body["output"][1]["content"][0]["logprobs"]
    assert [entry["token"] for entry in logprobs] == ["c", "d", "e"]
    assert logprobs[0]["bytes"] == [99]
    TheirResponse.model_validate(body)
