"""The bytes of answers: frames of a stream against the whole body, usage, pings, errors in mid-stream."""

import asyncio
import json
from typing import Any

import pytest

from loraplex.engine.request import FinishReason, TokenLogprob
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.generation import Generation, GenerationFailedError, Job
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.chat_writer import ChatWriter
from loraplex.platform.inference.completion_writer import CompletionWriter, Wanted
from loraplex.platform.inference.logprobs import TokenList, chat_logprobs
from loraplex.platform.inference.prompts import Prompt
from loraplex.platform.inference.schemas import StreamOptions
from loraplex.platform.inference.streaming import frames

Json = Any  # what a test looks into

HEADING = Heading("cmpl-1", 1700000000, "m", "fp_x")


def delta(text: str, output: int, *, finish: FinishReason | None = None, cached: int = 2) -> Delta:
    return Delta("r", (1,), text, None, finish, None, 5, cached, output)


def generation(count: int) -> Generation:
    return Generation([Job((1,), SamplingParams())] * count, lambda _: None)


def put(running: Generation, index: int, *deltas: Delta) -> None:
    for delta in deltas:
        running.push(running.slots[index], delta)


def completion_writer(count: int, n: int = 1, **options: bool) -> CompletionWriter:
    prompts = [Prompt((1,), "")] * (count // n)
    return CompletionWriter(HEADING, None, prompts, Wanted(n, n), StreamOptions(**options))


def data(frame: bytes) -> list[Json]:
    events = [event for event in frame.decode().split("\n\n") if event]
    return [
        event if event == "data: [DONE]" else json.loads(event.removeprefix("data: "))
        for event in events
    ]


async def test_a_stream_without_usage_never_mentions_it() -> None:
    running = generation(1)
    put(running, 0, delta("ab", 2, finish=FinishReason.STOP))
    (chunk,), (done,) = [data(frame) async for frame in frames(running, completion_writer(1))]
    assert done == "data: [DONE]"
    assert chunk == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1700000000,
        "model": "m",
        "choices": [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}],
        "system_fingerprint": "fp_x",
    }


async def test_include_usage_puts_null_everywhere_and_the_sum_at_the_end() -> None:
    running = generation(4)  # two prompts, n=2
    for index in range(4):
        put(running, index, delta("ab", 2 + index, finish=FinishReason.LENGTH))
    parts = [
        data(frame) async for frame in frames(running, completion_writer(4, 2, include_usage=True))
    ]
    assert [chunk["usage"] for chunk in parts[0]] == [None] * 4
    usage, done = parts[1]
    assert done == "data: [DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 10,  # each of the two prompts once
        "completion_tokens": 2 + 3 + 4 + 5,
        "total_tokens": 24,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_silence_is_filled_with_pings_and_one_step_is_one_frame() -> None:
    running = generation(2)
    stream = frames(running, completion_writer(2), ping_seconds=0.02)
    assert await anext(stream) == b": ping\n\n"
    put(running, 0, delta("a", 1))
    put(running, 1, delta("b", 1))
    first = await anext(stream)
    assert [chunk["choices"][0]["text"] for chunk in data(first)] == ["a", "b"]
    # Tokens whose text is still held back make no frame of their own.
    put(running, 0, delta("", 2))
    put(running, 1, delta("c", 2))
    assert [chunk["choices"][0]["index"] for chunk in data(await anext(stream))] == [1]


async def test_an_error_in_mid_stream_is_the_last_frame() -> None:
    running = generation(1)
    stream = frames(running, completion_writer(1))
    put(running, 0, delta("a", 1))
    await anext(stream)
    running.fail(GenerationFailedError("It broke."))
    rest = [data(frame) async for frame in stream]
    assert rest == [
        [
            {
                "error": {
                    "message": "It broke.",
                    "type": "server_error",
                    "param": None,
                    "code": "generation_failed",
                }
            }
        ]
    ]


async def test_chat_opens_each_choice_with_its_role_once() -> None:
    writer = ChatWriter(HEADING, Tokenizer.__new__(Tokenizer), 2, StreamOptions())
    running = generation(2)
    stream = frames(running, writer)
    put(running, 1, delta("x", 1))
    first = data(await anext(stream))
    assert [chunk["choices"][0] for chunk in first] == [
        {
            "index": 1,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        },
        {"index": 1, "delta": {"content": "x"}, "logprobs": None, "finish_reason": None},
    ]
    put(running, 0, delta("", 1, finish=FinishReason.STOP))
    put(running, 1, delta("y", 2, finish=FinishReason.LENGTH))
    second = data(await anext(stream))
    assert [chunk["choices"][0]["delta"] for chunk in second] == [
        {"role": "assistant", "content": ""},
        {},
        {"content": "y"},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in second] == [None, "stop", "length"]


async def test_obfuscation_only_when_asked_for() -> None:
    running = generation(1)
    put(running, 0, delta("ab", 2, finish=FinishReason.STOP))
    parts = [
        data(frame)
        async for frame in frames(running, completion_writer(1, include_obfuscation=True))
    ]
    assert len(parts[0][0]["obfuscation"]) >= 1


async def test_a_reader_that_never_comes_back_costs_merged_memory_only() -> None:
    running = generation(1)
    put(running, 0, *(delta(letter, i + 1) for i, letter in enumerate("hello")))
    await asyncio.sleep(0)
    ((_, merged),) = await running.next()
    assert (merged.text, merged.token_ids, merged.output_tokens) == ("hello", (1,) * 5, 5)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    from support.checkpoints import write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_directory(folder)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_pieces_of_a_character_are_told_by_their_bytes(tokenizer: Tokenizer) -> None:
    entries = [TokenLogprob(token, -1.0, ()) for token in ids(tokenizer, "a\u00e9b")]
    told = chat_logprobs(entries, tokenizer).content
    assert [entry.bytes for entry in told] == [[97], [0xC3], [0xA9], [98]]
    logprobs = TokenList(tokenizer).entries(entries)
    assert logprobs.tokens == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    # Both pieces begin where the character does, and only the second completes it.
    assert logprobs.text_offset == [0, 1, 1, 2]


def test_what_is_impossible_stays_json(tokenizer: Tokenizer) -> None:
    a, b = ids(tokenizer, "ab")
    entry = TokenLogprob(a, -0.5, ((b, float("-inf")),))
    logprobs = TokenList(tokenizer).entries([entry])
    assert (logprobs.tokens, logprobs.text_offset) == (["a"], [0])
    assert logprobs.top_logprobs == [{"b": -9999.0, "a": -0.5}]


@pytest.mark.parametrize("options", [{}, {"include_usage": True}])
@pytest.mark.parametrize("text", ["a", '"quoted"\n', "\\", "\x00\x1f", "é👋", '"', "</script>"])
def test_chunks_from_parts_are_those_encoded_whole(text: str, options: dict[str, bool]) -> None:
    names = Heading("cmpl-1", 1700000000, 'm"\\', "fp_x")
    settings = StreamOptions(**options)
    for writer, slow in (
        (
            CompletionWriter(names, None, [Prompt((1,), "")], Wanted(2, 2), settings),
            "text_completion",
        ),
        (ChatWriter(names, Tokenizer.__new__(Tokenizer), 2, settings), "chat.completion.chunk"),
    ):
        for index in (1, 0):
            chunk = json.loads(writer.chunk(index, delta(text, 1)) or b"")
            last = json.loads(writer.chunk(index, delta(text, 1, finish=FinishReason.STOP)) or b"")
            assert last["choices"][0].pop("finish_reason") == "stop"
            assert chunk["choices"][0].pop("finish_reason") is None
            assert chunk == last
            assert chunk["object"] == slow
            assert list(chunk) == list(last)


async def test_a_reader_of_the_whole_is_woken_once() -> None:
    running = generation(1)
    reading = asyncio.ensure_future(running.collect())
    await asyncio.sleep(0)
    waiter = running._waiter
    for count in range(1, 50):
        put(running, 0, delta("a", count))
        await asyncio.sleep(0)
    assert running._waiter is waiter
    put(running, 0, delta("a", 50, finish=FinishReason.LENGTH))
    (whole,) = await reading
    assert (whole.text, whole.output_tokens) == ("a" * 50, 50)


async def test_silence_is_measured_from_the_last_news() -> None:
    """One timer serves many waits; it must end neither the wrong one nor one too early."""
    running = generation(1)
    for count in range(1, 6):
        asyncio.get_running_loop().call_later(0.03, put, running, 0, delta("a", count))
        assert await running.next(0.05)
    start = asyncio.get_running_loop().time()
    assert await running.next(0.05) == []
    assert asyncio.get_running_loop().time() - start >= 0.049
    assert await running.next(0.01) == []
    running.close()
