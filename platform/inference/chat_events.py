"""Owns what an answer of a chat consists of, told apart as it comes: text, thoughts, calls. The writers of all dialects
read their choices through it.

    readers = opening.readers             # `dialects.Opening`: makes the reader of one choice
    reader = readers()                    # one per choice, for streams and whole answers alike
    for event in reader.read(delta): ...  # with every delta of the choice, the last one included
    reader.reasoning_tokens               # so far; for the usage

The last delta of a choice (its `finish_reason` is set) yields a `Finish` as the last event. The arguments of one call
are all told before the next call begins, and a call's arguments follow its `CallBegin` as one or more
`ArgumentsDelta`. Text may come before, between and after calls. Events are the same however the text was cut into
deltas, apart from where their own texts are cut. What looks like a call and is none comes as text; nothing raises.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from loraplex.platform.engines.messages import Delta

# "tool_calls": it called something and was not cut off.
ChatFinish = Literal["stop", "length", "tool_calls"]


class TextDelta(NamedTuple):
    """More of what the model says."""

    text: str


class ReasoningDelta(NamedTuple):
    """More of what it thinks; only before its first text or call."""

    text: str


class CallBegin(NamedTuple):
    """It calls a function. `number` counts the calls of the choice from 0; `id` is new and like `call_...`."""

    number: int
    id: str
    name: str


class ArgumentsDelta(NamedTuple):
    """More of the arguments of call `number`: a piece of JSON text as the model wrote it. Unless a structure was
    enforced, the whole need not be valid JSON."""

    number: int
    text: str


class Finish(NamedTuple):
    """The choice has ended; nothing follows."""

    reason: ChatFinish


ChatEvent = TextDelta | ReasoningDelta | CallBegin | ArgumentsDelta | Finish


class ChatReader(Protocol):
    """Tells one choice's parts apart."""

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens read so far were thoughts, with the marks around them."""
        ...

    def read(self, delta: Delta) -> list[ChatEvent]:
        """What `delta` adds; often one event, and none while a mark or a call's name is incomplete."""
        ...


Readers = Callable[[], ChatReader]


class PlainReader:
    """For models and requests with neither thoughts nor calls: all is text."""

    reasoning_tokens = 0

    def read(self, delta: Delta) -> list[ChatEvent]:
        """The text, then the end."""
        events: list[ChatEvent] = [TextDelta(delta.text)] if delta.text else []
        if delta.finish_reason is not None:
            events.append(Finish("length" if delta.finish_reason == "length" else "stop"))
        return events
