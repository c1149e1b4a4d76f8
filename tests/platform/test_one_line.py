"""Text with every character that some program takes for the end of a line: in no dialect it tears a frame or a line."""

import json
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest

from loraplex.engine.request import FinishReason
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.batches.results import answered, never_run, refused
from loraplex.platform.engines.generation import Generation, GenerationFailedError, Job
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.answer import Answer, Heading
from loraplex.platform.inference.chat_events import PlainReader
from loraplex.platform.inference.chat_writer import ChatWriter
from loraplex.platform.inference.completion_writer import CompletionWriter, Wanted
from loraplex.platform.inference.delivery import ChunkDelivery, Delivery
from loraplex.platform.inference.prompts import Prompt
from loraplex.platform.inference.schemas import StreamOptions
from loraplex.platform.messages.service import MessageDelivery
from loraplex.platform.messages.writer import MessageWriter
from loraplex.platform.one_line import one_line
from loraplex.platform.responses.bodies import Response
from loraplex.platform.responses.delivery import ResponseDelivery
from loraplex.platform.responses.transcript import Transcript
from loraplex.platform.responses.writer import ResponseWriter
from support.dialects import begun_response, delta

# A carriage return, and what `splitlines` knows beside the line feed; others that begin with the same bytes stay.
TEXT = "a\x85b\u2028c\u2029d\r\n\v\f\x1c\x1d\x1e \\\u2028 é€“¢”日本"
HEADING = Heading("x-1", 1, "m", "fp_x")


def tokenizer() -> Tokenizer:
    """One that has no vocabulary: only texts are asked of it."""
    return Tokenizer.__new__(Tokenizer)


def completion(running: Generation) -> Delivery:
    writer = CompletionWriter(HEADING, None, [Prompt((1,), "")], Wanted(1, 1), StreamOptions())
    return ChunkDelivery(Answer(running, writer))


def chat(running: Generation) -> Delivery:
    writer = ChatWriter(HEADING, tokenizer(), 1, StreamOptions(), PlainReader)
    return ChunkDelivery(Answer(running, writer))


def response(running: Generation) -> Delivery:
    async def forget(_: Response) -> None:
        """Keep nothing."""

    transcript = Transcript(begun_response(), streams=True)
    writer = ResponseWriter(transcript, PlainReader(), tokenizer())
    return ResponseDelivery(running, writer, forget)


def message(running: Generation) -> Delivery:
    writer = MessageWriter(HEADING, PlainReader(), tokenizer(), (), streams=True)
    return MessageDelivery(running, writer, "req_1")


async def lines_of(frames: AsyncIterator[bytes]) -> list[str]:
    """As clients that use `splitlines` see a stream."""
    return b"".join([frame async for frame in frames]).decode().splitlines()


def told(lines: Sequence[str]) -> list[object]:
    """The JSON of every event; lines that are none of a stream fail."""
    assert {line.partition(":")[0] for line in lines} <= {"", "event", "data"}
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


def texts(value: object) -> list[str]:
    """All strings in it."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts(item)]


@pytest.mark.parametrize("begin", [completion, chat, response, message])
@pytest.mark.parametrize("fails", [False, True])
async def test_no_text_tears_a_frame(begin: Callable[[Generation], Delivery], fails: bool) -> None:
    running = Generation([Job((1,), SamplingParams())], lambda _: None)
    frames = begin(running).frames()
    if fails:
        running.fail(GenerationFailedError(TEXT))
    else:
        running.push(running.slots[0], delta(TEXT, 1, FinishReason.STOP))
    assert TEXT in texts(told(await lines_of(frames)))


def test_no_text_tears_a_line_of_a_batch() -> None:
    answer = msgspec.json.encode({"text": TEXT})
    lines = [answered(TEXT, answer), refused("b", BadRequestError(TEXT)), never_run("c", "d", TEXT)]
    for line in lines:
        assert len(line.decode().splitlines()) == 1
        assert TEXT in texts(json.loads(line))


def test_what_needs_no_escape_stays_as_it_is() -> None:
    plain = msgspec.json.encode("é€“¢”日本 \u2027\u202a\x84\x86")
    assert one_line(plain) == plain
