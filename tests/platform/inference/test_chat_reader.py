"""Reading choices, and how chats are written: thoughts, text and calls, the same whole and in chunks of any size."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.request import FinishReason
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.chat_events import (
    ArgumentsDelta,
    CallBegin,
    ChatEvent,
    Finish,
    ReasoningDelta,
    TextDelta,
)
from loraplex.platform.inference.chat_reader import Reading
from loraplex.platform.inference.chat_writer import PLAIN, ChatWriter, Style
from loraplex.platform.inference.reasoning import Marks, Stage, ThoughtCounter, reasoning_marks
from loraplex.platform.inference.schemas import StreamOptions
from loraplex.platform.inference.tool_parsers.choose import tool_format
from support import chat_templates

Json = Any  # what a test looks into

THINK = Marks("<think>", "</think>")
SPECIAL = "[TOOL_CALLS]"
CALLS = (
    "<think>\nHm.\n</think>\n\nSure.\n"
    '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
    '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
)


def reading(**fields: Any) -> Reading:
    defaults: dict[str, Any] = {
        "marks": THINK,
        "stage": Stage.OPEN,
        "tools": tool_format("hermes", ""),
        "names": frozenset(("f", "g")),
    }
    return Reading(**{**defaults, **fields})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, marks of thoughts as plain tokens, and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(list(THINK))
    backend.add_special_tokens([SPECIAL, "<|other|>"])
    return Tokenizer(backend, chat_template=None, bos_token=None, eos_token=None)


def deltas(tokenizer: Tokenizer, text: str, size: int, finish: FinishReason) -> list[Delta]:
    """A text as an engine would tell it, `size` tokens at once."""
    visible = tokenizer.special_id(SPECIAL)
    assert visible is not None
    detokenizer = Detokenizer(tokenizer, (), (), (visible,))
    ids = tokenizer.encode(text, add_special_tokens=False)
    result = []
    for at in range(0, len(ids), size):
        part = tuple(ids[at : at + size])
        told, last = detokenizer.append(part, check_stop=True).text, at + size >= len(ids)
        reason = finish if last else None
        result.append(Delta("r", part, told, None, reason, None, 3, 0, min(at + size, len(ids))))
    return result


def joined(events: Iterator[ChatEvent]) -> list[Json]:
    result: list[Json] = []
    for event in events:
        match event:
            case CallBegin(_, call_id, name):
                assert re.fullmatch(r"call_[0-9a-f]{24}", call_id)
                result.append(["call", name, ""])
            case ArgumentsDelta(number, text):
                calls = [each for each in result if each[0] == "call"]
                assert number == len(calls) - 1
                calls[-1][2] += text
            case ReasoningDelta(text) | TextDelta(text) if result and result[-1][0] is type(event):
                result[-1][1] += text
            case ReasoningDelta(text) | TextDelta(text):
                result.append([type(event), text])
            case Finish(reason):
                result.append(["end", reason])
    return result


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("how", "text", "finish", "expected", "thought_tokens"),
    [
        (
            reading(),
            CALLS,
            FinishReason.STOP,
            [
                [ReasoningDelta, "Hm."],
                [TextDelta, "Sure."],
                ["call", "f", '{"x": 1}'],
                ["call", "g", "{}"],
                ["end", "tool_calls"],
            ],
            7,
        ),
        (
            reading(single=True, stage=Stage.SAYING),
            CALLS.partition("Sure.\n")[2],
            FinishReason.STOP,
            [["call", "f", '{"x": 1}'], ["end", "tool_calls"]],
            0,
        ),
        (
            reading(stage=Stage.THINKING),
            "Hm.</think>Yes",
            FinishReason.STOP,
            [[ReasoningDelta, "Hm."], [TextDelta, "Yes"], ["end", "stop"]],
            4,
        ),
        (
            reading(),
            "<think>Hm. ",
            FinishReason.LENGTH,
            [[ReasoningDelta, "Hm."], ["end", "length"]],
            5,
        ),
        # Thoughts come first or not at all.
        (
            reading(tools=None),
            "  Yes <think>no</think>",
            FinishReason.STOP,
            [[TextDelta, "  Yes <think>no</think>"], ["end", "stop"]],
            0,
        ),
        (reading(), "<think></think>", FinishReason.STOP, [["end", "stop"]], 2),
        (reading(), "<thi", FinishReason.STOP, [[TextDelta, "<thi"], ["end", "stop"]], 0),
        (
            reading(tools=tool_format("mistral", ""), marks=None),
            f"Oh{SPECIAL}f[ARGS]{{}}<|other|>",
            FinishReason.STOP,
            [[TextDelta, "Oh"], ["call", "f", "{}"], ["end", "tool_calls"]],
            0,
        ),
        (
            reading(tools=tool_format("mistral", ""), marks=None, opening=SPECIAL),
            'f[ARGS]{"a',
            FinishReason.LENGTH,
            [["call", "f", '{"a'], ["end", "length"]],
            0,
        ),
    ],
)
def test_a_choice_is_told_apart_however_it_came(
    size: int,
    how: Reading,
    text: str,
    finish: FinishReason,
    expected: list[Json],
    thought_tokens: int,
    tokenizer: Tokenizer,
) -> None:
    reader = how.readers(tokenizer)()
    news = deltas(tokenizer, text, size, finish)
    assert joined(event for delta in news for event in reader.read(delta)) == expected
    assert reader.reasoning_tokens == thought_tokens


def test_thoughts_whose_mark_is_no_token_are_counted_by_their_text(tokenizer: Tokenizer) -> None:
    marks = reasoning_marks("mistral", "")
    reader = reading(marks=marks).readers(tokenizer)()
    for delta in deltas(tokenizer, "[THINK]12345[/THINK]yes", 1, FinishReason.STOP):
        reader.read(delta)
    assert reader.reasoning_tokens == 5


def test_the_marks_show_in_the_template() -> None:
    assert reasoning_marks("auto", chat_templates.QWEN3) == THINK
    assert reasoning_marks("auto", "[THINK] [/THINK]") == Marks("[THINK]", "[/THINK]")
    assert reasoning_marks("auto", chat_templates.HERMES) is None
    assert reasoning_marks("none", chat_templates.QWEN3) is None


def writer(tokenizer: Tokenizer, style: Style = PLAIN, **options: bool) -> ChatWriter:
    heading, readers = Heading("chatcmpl-1", 17, "m", "fp"), reading().readers(tokenizer)
    return ChatWriter(heading, tokenizer, 1, StreamOptions(**options), readers, style)


def whole(tokenizer: Tokenizer, text: str, style: Style = PLAIN) -> Json:
    (delta,) = deltas(tokenizer, text, 1000, FinishReason.STOP)
    return json.loads(writer(tokenizer, style).whole([delta]))


def test_a_whole_answer_with_thoughts_and_calls(tokenizer: Tokenizer) -> None:
    body = whole(tokenizer, CALLS, Style(service_tier="flex", metadata={"a": "b"}))
    (choice,) = body["choices"]
    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert (message["content"], message["reasoning_content"]) == ("Sure.", "Hm.")
    assert [call.pop("id")[:5] for call in message["tool_calls"]] == ["call_"] * 2
    assert message["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}
    assert (body["service_tier"], body["metadata"]) == ("flex", {"a": "b"})


def test_without_text_there_is_null_beside_a_call(tokenizer: Tokenizer) -> None:
    message = whole(tokenizer, CALLS.partition("Sure.\n")[2])["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message
    plain = whole(tokenizer, "Hi")["choices"][0]["message"]
    assert plain == {"role": "assistant", "content": "Hi", "refusal": None}


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_chunks_add_up_to_the_whole(size: int, tokenizer: Tokenizer) -> None:
    chunks = writer(tokenizer, include_usage=True)
    frames = [chunks.opening(0)]
    frames += [chunks.chunk(0, each) for each in deltas(tokenizer, CALLS, size, FinishReason.STOP)]
    bodies = [json.loads(frame) for frame in frames if frame is not None]
    news = [body["choices"][0] for body in bodies]
    assert [each["finish_reason"] for each in news] == [None] * (len(news) - 1) + ["tool_calls"]
    parts = [each["delta"] for each in news]
    assert parts[0] == {"role": "assistant", "content": ""}
    assert "".join(part.get("content", "") for part in parts) == "Sure."
    assert "".join(part.get("reasoning_content", "") for part in parts) == "Hm."
    calls: dict[int, Json] = {}
    for call in (call for part in parts for call in part.get("tool_calls", ())):
        known = calls.setdefault(call["index"], call)
        if known is not call:
            assert call.keys() == {"index", "function"}
            assert call["function"].keys() == {"arguments"}
            known["function"]["arguments"] += call["function"]["arguments"]
    named = [(call["function"]["name"], call["function"]["arguments"]) for call in calls.values()]
    assert named == [("f", '{"x": 1}'), ("g", "{}")]
    closing = chunks.closing()
    assert closing is not None
    assert json.loads(closing)["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7


def test_the_older_way_to_write_a_call(tokenizer: Tokenizer) -> None:
    (choice,) = whole(tokenizer, CALLS, Style(legacy=True))["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"x": 1}'}
    assert "tool_calls" not in choice["message"]


def test_thoughts_are_counted_once_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where their mark is no token of its own they are encoded, which takes long."""
    backend = Backend(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = Tokenizer(backend, chat_template=None, bos_token=None, eos_token=None)
    encoded: list[str] = []

    def encode(text: str, add_special_tokens: bool = True) -> list[int]:
        encoded.append(text)
        return [0] * len(text)

    monkeypatch.setattr(tokenizer, "encode", encode)
    counter = ThoughtCounter(Marks("<think>", "</think>"), tokenizer)
    assert counter.tokens == 0
    for thought in ("abc", "de", "", ""):
        counter.see((0,), thought)
        assert counter.tokens == counter.tokens
    assert counter.tokens == 5
    assert encoded == ["abc", "abcde"]
