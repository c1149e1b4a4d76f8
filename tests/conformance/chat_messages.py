"""Owns what is said of the messages of chats."""

from conformance.chat_fields import BAD, CANNOT, MESSAGES, MISSING, tokens
from conformance.judged import Ask, Effect, Field, Json, Refusal, ignored, no, refused, supported

LONG = "x" * 37
CALL: Json = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USER = {"role": "user", "content": "a"}


def grows(before: list[Json], after: list[Json], by: int) -> Effect:
    """The effect of what the template writes: a longer prompt."""

    def effect(ask: Ask) -> None:
        assert tokens(ask, *after) == tokens(ask, *before) + by

    return effect


def messages(ask: Ask) -> None:
    one, two = tokens(ask, USER), tokens(ask, USER, USER)
    assert tokens(ask, USER, USER, USER) - two == two - one > len("user a")


def role(ask: Ask) -> None:
    user = tokens(ask, {"role": "user", "content": "a"})
    for name, shown in (("system", "system"), ("developer", "system"), ("assistant", "assistant")):
        told = tokens(ask, {"role": name, "content": "a"})
        assert told - user == len(shown) - len("user")
    tool = {"role": "tool", "content": "a", "tool_call_id": "c"}
    function = {"role": "function", "content": "a", "name": "f"}
    assert tokens(ask, USER, tool) > user
    assert tokens(ask, USER, function) > user


def content(ask: Ask) -> None:
    part = {"type": "text", "text": LONG}
    one, two = (tokens(ask, {"role": "user", "content": [part] * count}) for count in (1, 2))
    assert tokens(ask, {"role": "user", "content": LONG}) == one
    assert two == one + len("\n") + len(LONG)


def said_no(ask: Ask) -> None:
    part = {"type": "refusal", "refusal": LONG}
    said = [{"role": "assistant", "content": LONG}, USER]
    assert tokens(ask, {"role": "assistant", "content": [part]}, USER) == tokens(ask, *said)


def breakpoints(ask: Ask) -> None:
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert tokens(ask, {"role": "user", "content": [part]}) == tokens(ask, USER)


def asked(**changes: Json) -> list[Json]:
    """A conversation with a call."""
    function = {**CALL["function"], **changes.pop("function", {})}
    return [USER, {"role": "assistant", "tool_calls": [{**CALL, **changes, "function": function}]}]


WRITTEN = '<tool_call>{"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}</tool_call>'
RESULT = {"role": "tool", "tool_call_id": "c", "content": "a"}
LEGACY = {"name": "f", "arguments": "{}"}


def legacy(**changes: Json) -> list[Json]:
    """A conversation with a call of older days."""
    return [USER, {"role": "assistant", "function_call": {**LEGACY, **changes}}]


def with_message(message: Json, code: str, at: str) -> Refusal:
    return no(code, messages=[*MESSAGES, message], at=f"messages[1].{at}")


def no_part(kind: str, value: Json) -> Field:
    message = {"role": "user", "content": [{"type": kind, kind: value}]}
    refusal = with_message(message, CANNOT, "content[0].type")
    return refused(f"messages[].content[]({kind})", refusal, note="text only")


ASSISTANT = {"role": "assistant", "content": "a"}
CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
MESSAGE_FIELDS: tuple[Field, ...] = (
    supported("messages", messages, no(BAD, messages=[]), no(MISSING, messages=...)),
    supported(
        "messages[].role",
        role,
        with_message({"role": "x", "content": "a"}, BAD, "role"),
        note="all six; `developer` as `system`, `function` as `tool`",
    ),
    supported(
        "messages[].content",
        content,
        with_message({"role": "user"}, CANNOT, "content"),
        with_message({"role": "user", "content": []}, CANNOT, "content"),
    ),
    supported("messages[].content[](text)", content),
    supported(
        "messages[].content[](text).text",
        content,
        with_message({"role": "user", "content": [{"type": "text"}]}, CANNOT, "content[0].text"),
    ),
    ignored(
        "messages[].content[](text).prompt_cache_breakpoint",
        "prefixes are always cached, and no answer changes",
        breakpoints,
    ),
    supported("messages[].content[](refusal)", said_no),
    supported("messages[].content[](refusal).refusal", said_no),
    no_part("image_url", {"url": "https://example.com/a.png"}),
    no_part("input_audio", {"data": "", "format": "wav"}),
    no_part("file", {"file_id": "file-a"}),
    supported(
        "messages[].name",
        grows([USER], [{**USER, "name": LONG}], len(LONG)),
        with_message({**USER, "name": 1}, BAD, "name"),
        with_message({"role": "function", "content": "a"}, CANNOT, "name"),
        note="for the chat template",
    ),
    supported(
        "messages[].refusal",
        grows(
            [USER, {"role": "assistant", "content": "a"}],
            [USER, {"role": "assistant", "refusal": LONG}],
            len(LONG) - 1,
        ),
        with_message({"role": "assistant", "refusal": 1}, BAD, "refusal"),
        note="what was said, if there is no content",
    ),
    refused(
        "messages[].audio",
        with_message({**ASSISTANT, "audio": {"id": "a"}}, CANNOT, "audio"),
        note="text only",
    ),
    supported(
        "messages[].tool_calls",
        grows(asked(), [USER, {**asked()[1], "tool_calls": [CALL, CALL]}], len(WRITTEN)),
        with_message({**USER, "tool_calls": [CALL]}, CANNOT, "tool_calls"),
        note="of the assistant",
    ),
    supported("messages[].tool_calls[](function)", grows(asked(), asked(id=LONG), 36)),
    supported(
        "messages[].tool_calls[](function).id",
        grows(asked(), asked(id=LONG), 36),
        with_message(
            {"role": "assistant", "tool_calls": [{**CALL, "id": 1}]}, BAD, "tool_calls[0].id"
        ),
    ),
    supported(
        "messages[].tool_calls[](function).function",
        grows(asked(), asked(function={"name": LONG}), 36),
    ),
    supported(
        "messages[].tool_calls[](function).function.name",
        grows(asked(), asked(function={"name": LONG}), 36),
    ),
    supported(
        "messages[].tool_calls[](function).function.arguments",
        grows(asked(), asked(function={"arguments": '{"a": "' + LONG + '"}'}), len(LONG) + 7),
        note="JSON is handed to the chat template as an object",
    ),
    refused(
        "messages[].tool_calls[](custom)",
        with_message({"role": "assistant", "tool_calls": [CUSTOM]}, BAD, "tool_calls[0].type"),
        note="functions only",
    ),
    supported(
        "messages[].tool_call_id",
        grows([*asked(), RESULT], [*asked(), {**RESULT, "tool_call_id": LONG}], 36),
        with_message({"role": "tool", "content": "a"}, CANNOT, "tool_call_id"),
        note="a tool's message needs it",
    ),
    supported(
        "messages[].function_call",
        grows(asked(id="call_f"), legacy(), 0),
        with_message({**USER, "function_call": LEGACY}, CANNOT, "function_call"),
        note="of the assistant; for the chat template as one of `tool_calls`",
    ),
    supported("messages[].function_call.name", grows(legacy(), legacy(name=LONG), 2 * 36)),
    supported(
        "messages[].function_call.arguments",
        grows(legacy(), legacy(arguments='{"a": "' + LONG + '"}'), len(LONG) + 7),
    ),
)
