"""Owns the items that conversations of the Responses API are made of, in the one form in which they are answered with,
kept, and listed."""

import secrets
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Status = Literal["in_progress", "completed", "incomplete"]


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    bytes: list[int]
    logprob: float


class Logprob(msgspec.Struct, frozen=True):
    """One token of a text. `bytes` is empty for a piece of a character."""

    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[TopLogprob]


class InputText(msgspec.Struct, tag="input_text", tag_field="type"):
    text: str


class OutputText(msgspec.Struct, tag="output_text", tag_field="type", kw_only=True):
    text: str
    annotations: list[str] = []  # nothing here makes any
    logprobs: list[Logprob] | UnsetType = UNSET


class Refusal(msgspec.Struct, tag="refusal", tag_field="type"):
    refusal: str


class ReasoningText(msgspec.Struct, tag="reasoning_text", tag_field="type"):
    text: str


class SummaryText(msgspec.Struct, tag="summary_text", tag_field="type"):
    text: str


Part = InputText | OutputText | Refusal


class MessageItem(msgspec.Struct, tag="message", tag_field="type", kw_only=True):
    """What somebody said."""

    id: str
    role: Literal["user", "system", "developer", "assistant"]
    content: list[Part]
    status: Status = "completed"


class CallItem(msgspec.Struct, tag="function_call", tag_field="type", kw_only=True):
    """A function the model wants called; `arguments` are JSON."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"


class CallOutputItem(msgspec.Struct, tag="function_call_output", tag_field="type", kw_only=True):
    """What a called function gave back."""

    id: str
    call_id: str
    output: str | list[InputText]
    status: Status = "completed"


class ReasoningItem(msgspec.Struct, tag="reasoning", tag_field="type", kw_only=True):
    """What the model thought before it answered."""

    id: str
    content: list[ReasoningText]
    summary: list[SummaryText] = []
    encrypted_content: None = None
    status: Status = "completed"


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem

_PREFIXES: dict[type[Item], str] = {
    MessageItem: "msg",
    CallItem: "fc",
    CallOutputItem: "fco",
    ReasoningItem: "rs",
}


def new_id(kind: type[Item]) -> str:
    """An id that no other item has."""
    return f"{_PREFIXES[kind]}_{secrets.token_hex(20)}"
