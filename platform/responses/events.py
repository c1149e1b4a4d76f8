"""Owns the events of a streamed response."""

import msgspec
from msgspec import UNSET, UnsetType

from loraplex.platform.responses.bodies import Response
from loraplex.platform.responses.items import (
    Item,
    OutputText,
    ReasoningText,
)


class Event(msgspec.Struct, kw_only=True, tag_field="type"):
    """What all have: their place in the stream."""

    sequence_number: int


class Created(Event, tag="response.created", kw_only=True):
    response: Response


class InProgress(Event, tag="response.in_progress", kw_only=True):
    response: Response


class Completed(Event, tag="response.completed", kw_only=True):
    response: Response


class IncompleteEvent(Event, tag="response.incomplete", kw_only=True):
    response: Response


class Failed(Event, tag="response.failed", kw_only=True):
    response: Response


class ItemAdded(Event, tag="response.output_item.added", kw_only=True):
    output_index: int
    item: Item


class ItemDone(Event, tag="response.output_item.done", kw_only=True):
    output_index: int
    item: Item


class OfItem(Event, kw_only=True):
    """Events within an item."""

    item_id: str
    output_index: int


class PartAdded(OfItem, tag="response.content_part.added", kw_only=True):
    content_index: int = 0
    part: OutputText | ReasoningText


class PartDone(OfItem, tag="response.content_part.done", kw_only=True):
    content_index: int = 0
    part: OutputText | ReasoningText


class TokenTop(msgspec.Struct):
    token: str
    logprob: float


class TokenLogprob(msgspec.Struct):
    """One token of a delta; unlike in an item, without its bytes."""

    token: str
    logprob: float
    top_logprobs: list[TokenTop]


class TextDelta(OfItem, tag="response.output_text.delta", kw_only=True):
    content_index: int = 0
    delta: str
    logprobs: list[TokenLogprob]
    obfuscation: str | UnsetType = UNSET


class TextDone(OfItem, tag="response.output_text.done", kw_only=True):
    content_index: int = 0
    text: str
    logprobs: list[TokenLogprob]


class ReasoningDelta(OfItem, tag="response.reasoning_text.delta", kw_only=True):
    content_index: int = 0
    delta: str
    obfuscation: str | UnsetType = UNSET


class ReasoningDone(OfItem, tag="response.reasoning_text.done", kw_only=True):
    content_index: int = 0
    text: str


class ArgumentsDelta(OfItem, tag="response.function_call_arguments.delta", kw_only=True):
    delta: str
    obfuscation: str | UnsetType = UNSET


class ArgumentsDone(OfItem, tag="response.function_call_arguments.done", kw_only=True):
    name: str
    arguments: str


class Error(Event, tag="error", kw_only=True):
    """The stream cannot say how the response ended."""

    code: str | None
    message: str
    param: str | None
