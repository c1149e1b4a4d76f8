"""Owns turning items into the messages of a chat."""

from collections.abc import Iterable

from loraplex.platform.inference.schemas import FunctionCall, Message, ToolCall
from loraplex.platform.responses.items import (
    CallItem,
    CallOutputItem,
    InputText,
    Item,
    MessageItem,
    ReasoningItem,
    Refusal,
)


def messages(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """The conversation so far. What the model thought, said and called in one go becomes one message of it."""
    result: list[Message] = []
    if instructions is not None:
        result.append(Message("system", instructions))
    turn = _Turn()
    for item in items:
        if isinstance(item, CallOutputItem):
            result += turn.end()
            result.append(Message("tool", _output(item.output), tool_call_id=item.call_id))
        elif isinstance(item, MessageItem) and item.role != "assistant":
            result += turn.end()
            result.append(Message(item.role, _text(item)))
        else:
            if not turn.goes_on_with(item):
                result += turn.end()
            turn.add(item)
    return result + turn.end()


class _Turn:
    """What the model did in one go: it thinks, then speaks, then calls."""

    def __init__(self) -> None:
        self._thoughts: list[str] = []
        self._text: str | None = None
        self._calls: list[ToolCall] = []

    def goes_on_with(self, item: Item) -> bool:
        """Whether an item may belong to this turn."""
        return isinstance(item, CallItem) or (self._text is None and not self._calls)

    def add(self, item: Item) -> None:
        """Another item of the turn."""
        if isinstance(item, CallItem):
            function = FunctionCall(item.name, item.arguments)
            self._calls.append(ToolCall(item.call_id, function))
        elif isinstance(item, ReasoningItem):
            self._thoughts += [part.text for part in item.content or item.summary]
        elif isinstance(item, MessageItem):
            self._text = _text(item)

    def end(self) -> list[Message]:
        """Its message, if anything was done; the next turn begins."""
        thoughts, text, calls = self._thoughts, self._text, self._calls
        self._thoughts, self._text, self._calls = [], None, []
        if text is None and not calls:
            return []
        thought = "\n".join(thoughts) or None
        return [Message("assistant", text, tool_calls=calls or None, reasoning_content=thought)]


def _text(item: MessageItem) -> str:
    return "\n".join(
        part.refusal if isinstance(part, Refusal) else part.text for part in item.content
    )


def _output(output: str | list[InputText]) -> str:
    return output if isinstance(output, str) else "\n".join(part.text for part in output)
