"""Function calls in text, cut wherever it may be: the same calls and the same text come out, and nothing is lost."""

import time
from collections.abc import Sequence

import pytest

from loraplex.platform.inference.tool_parsers.choose import tool_format
from loraplex.platform.inference.tool_parsers.port import Arguments, Begin, Piece, Text
from loraplex.platform.settings import ToolParser
from support import chat_templates

NAMES = frozenset({"f", "get_time"})
Parts = list[str | tuple[str, str]]

# What a model wrote, and what it said and called: a text, or the name and the arguments of a call.
HERMES: list[tuple[str, Parts]] = [
    (
        'Hi.\n<tool_call>\n{"name": "f", "arguments": {"x": "}\\"<tool_call>"}}\n</tool_call>\n'
        '<tool_call>\n{"arguments": {"a": [1]}, "name": "f"}\n</tool_call>\n',
        ["Hi.", ("f", '{"x": "}\\"<tool_call>"}'), ("f", '{"a": [1]}')],
    ),
    ('<tool_call>{"name":"get_time"}</tool_call> Done.', [("get_time", "{}"), " Done."]),
    ('<tool_call>\n{"name": "f", "arguments": {}}}\n</tool_call>', [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": {"x": 1}} and', [("f", '{"x": 1}'), "and"]),
    ('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}', [("f", '{"x": 1}')]),
    # Cut off: what has begun stays a call.
    ('<tool_call>{"name": "f", "arguments": {"x": ', [("f", '{"x": ')]),
]
LLAMA3: list[tuple[str, Parts]] = [
    (
        '{"name": "f", "parameters": {"x": 1}}; {"type": "function", "name": "get_time", "parameters": null}',
        [("f", '{"x": 1}'), ("get_time", "{}")],
    ),
    ('<|python_tag|>{"name": "f", "parameters": {"x": {}}}', [("f", '{"x": {}}')]),
    ('One.<|python_tag|> {"name": "f", "parameters": {}}', ["One.", ("f", "{}")]),
]
MISTRAL: list[tuple[str, Parts]] = [
    (
        'So: [TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name":"get_time","arguments":{}}]',
        ["So:", ("f", '{"x": 1}'), ("get_time", "{}")],
    ),
    (
        '[TOOL_CALLS]f[ARGS]{"x": {"y":"]"}}[TOOL_CALLS]get_time[CALL_ID]abc[ARGS] {}',
        [("f", '{"x": {"y":"]"}}'), ("get_time", "{}")],
    ),
    ('[TOOL_CALLS]{"name": "f", "arguments": {}}', [("f", "{}")]),
]
# What is no call comes as it was written.
TEXTS: dict[ToolParser, list[str]] = {
    "hermes": [
        "a <tool_ca b  ",
        "<tool_call>",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call> x',
        '<tool_call>{"name": "f", "argum',
        '<tool_call>{"name": 7}',
        "<tool_call>[1]</tool_call>",
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f" "arguments": {}}',
        "<tool_call>\n</tool_call>",
        '<tool_call>{"name": "\\ud800", "arguments": {}}',
    ],
    "llama3": [
        '  {"a": 1} rest',
        'Say {"name": "f", "parameters": {}}',
        '{"name": "g", "parameters": {}}',
        '<|python_tag|>brave.call(query="x")',
        "<|python_tag|>",
        "",
        "; ",
    ],
    "mistral": [
        "[TOOL_C",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]g[ARGS]{}",
        "[TOOL_CALLS]f[ARGS]nothing",
        "[TOOL_CALLS]f",
        "[TOOL_CALLS]f[CALL_ID]1",
        '[TOOL_CALLS] [{"nom": 1}]',
        "[TOOL_CALLS][TOOL_CALLS]",
    ],
}
CASES = [
    *[("hermes", text, parts) for text, parts in HERMES],
    *[("llama3", text, parts) for text, parts in LLAMA3],
    *[("mistral", text, parts) for text, parts in MISTRAL],
    *[(name, text, [text] if text else []) for name, texts in TEXTS.items() for text in texts],
]


def parts(name: ToolParser, chunks: Sequence[str]) -> Parts:
    form = tool_format(name, "")
    assert form is not None
    parser = form.parser(NAMES)
    pieces: list[Piece] = [piece for chunk in chunks for piece in parser.feed(chunk)]
    result: Parts = []
    for piece in [*pieces, *parser.end()]:
        last = result[-1] if result else None
        match piece:
            case Begin(name=called):
                result.append((called, ""))
            case Text(text=text) if isinstance(last, str):
                result[-1] = last + text
            case Text(text=text):
                result.append(text)
            case Arguments(text=text):
                assert isinstance(last, tuple)
                result[-1] = (last[0], last[1] + text)
    return result


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_calls_come_out_however_the_text_was_cut(
    name: ToolParser, text: str, expected: Parts
) -> None:
    assert parts(name, [text]) == expected
    assert parts(name, list(text)) == expected
    for i in range(len(text) + 1):
        assert parts(name, [text[:i], text[i:]]) == expected, text[:i]
        assert parts(name, [text[:i], text[i : i + 3], text[i + 3 :]]) == expected, text[:i]


def test_arguments_are_told_as_they_come() -> None:
    form = tool_format("hermes", "")
    assert form is not None
    parser = form.parser(NAMES)
    assert parser.feed('<tool_call>{"name": "f", "arguments": ') == []
    assert parser.feed('{"x"') == [Begin("f"), Arguments('{"x"')]
    assert parser.feed(": 1") == [Arguments(": 1")]
    assert parser.feed("}}</tool") == [Arguments("}")]
    assert parser.feed("_call>") == []


def test_text_is_held_back_no_longer_than_it_may_be_a_mark() -> None:
    form = tool_format("hermes", "")
    assert form is not None
    parser = form.parser(NAMES)
    assert parser.feed("a <") == [Text("a")]
    assert parser.feed("b") == [Text(" <b")]


@pytest.mark.parametrize("name", ["hermes", "llama3", "mistral"])
def test_the_way_shows_in_the_template(name: ToolParser) -> None:
    template = chat_templates.ALL[name]
    assert tool_format("auto", template) is tool_format(name, "")
    assert tool_format("auto", chat_templates.R1) is None
    assert tool_format("none", template) is None


def test_mistrals_ids_have_nine_letters_and_digits() -> None:
    form = tool_format("mistral", "")
    assert form is not None
    assert form.call_id("abcDEF123") == "abcDEF123"
    assert form.call_id("call_1") == form.call_id("call_1") != form.call_id("call_2")
    assert len(form.call_id("call_1")) == 9
    assert form.call_id("call_1").isalnum()


@pytest.mark.parametrize("name", ["hermes", "llama3", "mistral"])
@pytest.mark.parametrize("begin", ["", "[TOOL_CALLS]", "<|python_tag|>", "<tool_call>{"])
def test_endless_white_space_is_read_once(name: ToolParser, begin: str) -> None:
    """It decides nothing, so it is kept; looked at again with every token, it would hold up everybody."""

    def seconds(spaces: int) -> float:
        form = tool_format(name, "")
        assert form is not None
        parser = form.parser(frozenset({"f"}))
        pieces = parser.feed(begin)
        start = time.process_time()
        for _ in range(spaces):
            assert not parser.feed("\n")
        spent = time.process_time() - start
        told = "".join(piece.text for piece in (*pieces, *parser.end()) if isinstance(piece, Text))
        assert told == begin + "\n" * spaces
        return spent

    # Ten times the work; a hundred times if all were read again.
    assert seconds(100_000) < 40 * min(seconds(10_000) for _ in range(3))
