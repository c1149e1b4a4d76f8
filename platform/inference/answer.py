"""Owns how the answer to one HTTP request is written down, whole or in chunks, as far as dialects share it; the rest is
in `chat_writer` and `completion_writer`."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.bodies import OutputDetails, PromptDetails, Usage

# Stands for a choice's text, and comes last in a chunk: behind it are only numbers and the fingerprint.
_MARK = '"'
_MARK_ENCODED = msgspec.json.encode(_MARK)


class Heading(msgspec.Struct, frozen=True):
    """What every body and chunk of one answer repeats."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def new(cls, prefix: str, model: str, fingerprint: str) -> "Heading":
        return cls(
            f"{prefix}{secrets.token_hex(12)}", int(time.time()), model, f"fp_{fingerprint[:10]}"
        )


class Counter:
    """Adds up the tokens of one answer. Jobs `i*n` to `i*n + n-1` answer prompt i."""

    def __init__(self, jobs: int, n: int) -> None:
        self._last: list[Delta | None] = [None] * jobs
        self._n = n

    def see(self, index: int, delta: Delta) -> None:
        self._last[index] = delta

    def usage(self) -> Usage:
        firsts = [delta for delta in self._last[:: self._n] if delta is not None]
        prompt = sum(delta.prompt_tokens for delta in firsts)
        output = sum(delta.output_tokens for delta in self._last if delta is not None)
        cached = sum(delta.cached_tokens for delta in firsts)
        return Usage(prompt, output, prompt + output, PromptDetails(cached), OutputDetails())


class TextChunks:
    """Chunks in which nothing but a choice's text changes from step to step: all around it is encoded once."""

    def __init__(self, encode: Callable[[int, str], bytes]) -> None:
        """`encode` writes a whole chunk with the text of a choice."""
        self._encode = encode
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def chunk(self, index: int, text: str) -> bytes:
        around = self._around.get(index)
        if around is None:
            head, _, tail = self._encode(index, _MARK).rpartition(_MARK_ENCODED)
            around = self._around[index] = (head, tail)
        return around[0] + msgspec.json.encode(text) + around[1]


class Writer(Protocol):
    """Writes one answer, either whole or as a series of chunks."""

    def opening(self, index: int) -> bytes | None:
        """The chunk in front of a choice's first text, if there is one."""
        ...

    def chunk(self, index: int, delta: Delta) -> bytes | None:
        """A choice's news; None if there is nothing to tell."""
        ...

    def closing(self) -> bytes | None:
        """The chunk behind the last one: the usage, if it was asked for."""
        ...

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """The complete body."""
        ...


class Answer(NamedTuple):
    """What runs for one request, one job per choice, and how it is written down."""

    generation: Generation
    writer: Writer


def padding() -> str:
    """Random text of random length, so that the sizes of encrypted frames tell less about the tokens in them."""
    return secrets.token_hex(16)[: 1 + secrets.randbelow(32)]
