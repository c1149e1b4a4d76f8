"""Owns how the answer to one HTTP request is written down, whole or in chunks, in two dialects: completions and
chat."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.bodies import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ChunkChoice,
    Completion,
    CompletionChoice,
    OutputDetails,
    PromptDetails,
    Usage,
)
from loraplex.platform.inference.logprobs import chat_logprobs, completion_logprobs
from loraplex.platform.inference.schemas import StreamOptions

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
            f"{prefix}-{secrets.token_hex(12)}", int(time.time()), model, f"fp_{fingerprint[:10]}"
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


class CompletionWriter:
    """Answers of /v1/completions; `echoes` is put in front of each choice's text."""

    def __init__(
        self,
        heading: Heading,
        tokenizer: Tokenizer | None,
        n: int,
        echoes: Sequence[str],
        options: StreamOptions,
    ) -> None:
        self._heading = heading
        self._tokenizer = tokenizer
        self._echoes = echoes
        self._options = options
        self._counter = Counter(len(echoes), n)
        self._offsets = [0] * len(echoes)
        self._encoder = msgspec.json.Encoder()
        self._texts = TextChunks(self._text_chunk)

    def opening(self, index: int) -> bytes | None:
        if not self._echoes[index]:
            return None
        return self._encode([CompletionChoice(index, self._echoes[index], None, None)])

    def chunk(self, index: int, delta: Delta) -> bytes | None:
        self._counter.see(index, delta)
        if not (delta.text or delta.finish_reason or delta.logprobs):
            return None
        if _only_text(delta) and not self._options.include_obfuscation:
            return self._texts.chunk(index, delta.text)
        return self._encode([self._choice(index, delta.text, delta)])

    def closing(self) -> bytes | None:
        if not self._options.include_usage:
            return None
        return self._encode([], self._counter.usage())

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        choices = []
        for index, delta in enumerate(deltas):
            self._counter.see(index, delta)
            choices.append(self._choice(index, self._echoes[index] + delta.text, delta))
        return self._encoder.encode(self._body(choices, self._counter.usage()))

    def _text_chunk(self, index: int, text: str) -> bytes:
        return self._encode([CompletionChoice(index, text, None, None)])

    def _choice(self, index: int, text: str, delta: Delta) -> CompletionChoice:
        logprobs = None
        if delta.logprobs is not None and self._tokenizer is not None:
            logprobs = completion_logprobs(delta.logprobs, self._tokenizer, self._offsets[index])
            self._offsets[index] += sum(map(len, logprobs.tokens))
        return CompletionChoice(index, text, logprobs, delta.finish_reason)

    def _encode(self, choices: list[CompletionChoice], usage: Usage | None = None) -> bytes:
        body = self._body(choices, usage)
        if not self._options.include_usage:
            body.usage = UNSET
        if self._options.include_obfuscation:
            body.obfuscation = padding()
        return self._encoder.encode(body)

    def _body(self, choices: list[CompletionChoice], usage: Usage | None) -> Completion:
        heading = self._heading
        return Completion(
            heading.id,
            "text_completion",
            heading.created,
            heading.model,
            choices,
            heading.fingerprint,
            usage,
        )


class ChatWriter:
    """Answers of /v1/chat/completions."""

    def __init__(
        self, heading: Heading, tokenizer: Tokenizer, n: int, options: StreamOptions
    ) -> None:
        self._heading = heading
        self._tokenizer = tokenizer
        self._options = options
        self._counter = Counter(n, n)
        self._encoder = msgspec.json.Encoder()
        self._texts = TextChunks(self._text_chunk)

    def opening(self, index: int) -> bytes | None:
        return self._encode([ChunkChoice(index, ChatDelta("assistant", ""), None, None)])

    def chunk(self, index: int, delta: Delta) -> bytes | None:
        self._counter.see(index, delta)
        if not (delta.text or delta.finish_reason or delta.logprobs):
            return None
        if _only_text(delta) and not self._options.include_obfuscation:
            return self._texts.chunk(index, delta.text)
        text = ChatDelta(content=delta.text) if delta.text else ChatDelta()
        logprobs = chat_logprobs(delta.logprobs, self._tokenizer) if delta.logprobs else None
        return self._encode([ChunkChoice(index, text, logprobs, delta.finish_reason)])

    def closing(self) -> bytes | None:
        if not self._options.include_usage:
            return None
        return self._encode([], self._counter.usage())

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        choices = []
        for index, delta in enumerate(deltas):
            self._counter.see(index, delta)
            logprobs = None
            if delta.logprobs is not None:
                logprobs = chat_logprobs(delta.logprobs, self._tokenizer)
            message = ChatMessage("assistant", delta.text)
            choices.append(ChatChoice(index, message, logprobs, delta.finish_reason))
        heading = self._heading
        return self._encoder.encode(
            ChatCompletion(
                heading.id,
                "chat.completion",
                heading.created,
                heading.model,
                choices,
                self._counter.usage(),
                heading.fingerprint,
            )
        )

    def _text_chunk(self, index: int, text: str) -> bytes:
        return self._encode([ChunkChoice(index, ChatDelta(content=text), None, None)])

    def _encode(self, choices: list[ChunkChoice], usage: Usage | None = None) -> bytes:
        heading = self._heading
        chunk = ChatChunk(
            heading.id,
            "chat.completion.chunk",
            heading.created,
            heading.model,
            choices,
            heading.fingerprint,
        )
        if self._options.include_usage:
            chunk.usage = usage
        if self._options.include_obfuscation:
            chunk.obfuscation = padding()
        return self._encoder.encode(chunk)


def _only_text(delta: Delta) -> bool:
    return delta.finish_reason is None and delta.logprobs is None


def padding() -> str:
    """Random text of random length, so that the sizes of encrypted frames tell less about the tokens in them."""
    return secrets.token_hex(16)[: 1 + secrets.randbelow(32)]
