"""Owns how answers of /v1/chat/completions are written down, whole or in chunks."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Counter, Heading, TextChunks, padding
from loraplex.platform.inference.bodies import (
    CallDelta,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ChunkChoice,
    FunctionDelta,
    Usage,
)
from loraplex.platform.inference.chat_events import (
    ArgumentsDelta,
    CallBegin,
    ChatEvent,
    Finish,
    PlainReader,
    Readers,
    ReasoningDelta,
    TextDelta,
)
from loraplex.platform.inference.logprobs import ChatLogprobs, chat_logprobs
from loraplex.platform.inference.schemas import ChatRequest, StreamOptions


class Style(NamedTuple):
    """What a request says of how its answer is to look.

    Attributes:
        legacy: a call is written as `function_call`.
        service_tier: the tier that was asked for and is given; None if none was.
        metadata: to be repeated.
    """

    legacy: bool = False
    service_tier: str | None = None
    metadata: dict[str, str] | None = None


PLAIN = Style()


def chat_style(request: ChatRequest) -> Style:
    """That of the answer to a request."""
    tier = request.service_tier
    return Style(
        bool(request.functions),
        "default" if tier == "auto" else tier,
        request.metadata,
    )


class ChatWriter:
    """Writes one answer of `n` choices."""

    def __init__(
        self,
        heading: Heading,
        tokenizer: Tokenizer,
        n: int,
        options: StreamOptions,
        readers: Readers = PlainReader,
        style: Style = PLAIN,
    ) -> None:
        self._heading = heading
        self._tokenizer = tokenizer
        self._options = options
        self._style = style
        self._tier: str | UnsetType = style.service_tier or UNSET
        self._readers = [readers() for _ in range(n)]
        self._counter = Counter(n, n)
        self._encoder = msgspec.json.Encoder()
        self._texts = TextChunks(self._text_chunk)

    def opening(self, index: int) -> bytes | None:
        """See `Writer`."""
        return self._encode([ChunkChoice(index, ChatDelta("assistant", ""), None, None)])

    def chunk(self, index: int, delta: Delta) -> bytes | None:
        """See `Writer`."""
        self._counter.see(index, delta)
        events = self._readers[index].read(delta)
        if not events and not delta.logprobs:
            return None
        if delta.logprobs is None and len(events) == 1 and not self._options.include_obfuscation:
            only = events[0]
            if isinstance(only, TextDelta):
                return self._texts.chunk(index, only.text)
        parts = _Parts(events)
        news = ChatDelta()
        if parts.text:
            news.content = parts.text
        if parts.thoughts:
            news.reasoning_content = parts.thoughts
        if parts.calls and self._style.legacy:
            news.function_call = parts.calls[0].function
        elif parts.calls:
            news.tool_calls = parts.calls
        finish = self._finish(parts)
        return self._encode([ChunkChoice(index, news, self._logprobs(delta), finish)])

    def closing(self) -> bytes | None:
        """See `Writer`."""
        return self._encode([], self._usage()) if self._options.include_usage else None

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See `Writer`."""
        choices = []
        for index, delta in enumerate(deltas):
            self._counter.see(index, delta)
            parts = _Parts(self._readers[index].read(delta))
            message = self._message(parts)
            choices.append(ChatChoice(index, message, self._logprobs(delta), self._finish(parts)))
        heading = self._heading
        return self._encoder.encode(
            ChatCompletion(
                heading.id,
                "chat.completion",
                heading.created,
                heading.model,
                choices,
                self._usage(),
                heading.fingerprint,
                self._tier,
                UNSET if self._style.metadata is None else self._style.metadata,
            )
        )

    def _message(self, parts: "_Parts") -> ChatMessage:
        silent = not parts.text and bool(parts.calls or parts.thoughts)
        message = ChatMessage("assistant", None if silent else parts.text)
        if parts.thoughts:
            message.reasoning_content = parts.thoughts
        if parts.calls and self._style.legacy:
            message.function_call = parts.calls[0].function
        elif parts.calls:
            for call in parts.calls:
                call.index = UNSET
            message.tool_calls = parts.calls
        return message

    def _finish(self, parts: "_Parts") -> str | None:
        if parts.finish == "tool_calls" and self._style.legacy:
            return "function_call"
        return parts.finish

    def _logprobs(self, delta: Delta) -> ChatLogprobs | None:
        if delta.logprobs is None:
            return None
        return chat_logprobs(delta.logprobs, self._tokenizer)

    def _usage(self) -> Usage:
        usage = self._counter.usage()
        thoughts = sum(reader.reasoning_tokens for reader in self._readers)
        usage.completion_tokens_details.reasoning_tokens = thoughts
        return usage

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
            service_tier=self._tier,
        )
        if self._options.include_usage:
            chunk.usage = usage
        if self._options.include_obfuscation:
            chunk.obfuscation = padding()
        return self._encoder.encode(chunk)


class _Parts:
    """What several events amount to."""

    def __init__(self, events: Sequence[ChatEvent]) -> None:
        self.text = self.thoughts = ""
        self.calls: list[CallDelta] = []
        self.finish: str | None = None
        for event in events:
            match event:
                case TextDelta(text):
                    self.text += text
                case ReasoningDelta(text):
                    self.thoughts += text
                case CallBegin(index, call_id, name):
                    self.calls.append(
                        CallDelta(index, call_id, "function", FunctionDelta(name, ""))
                    )
                case ArgumentsDelta(index, text):
                    self._arguments(index, text)
                case Finish(reason):
                    self.finish = reason

    def _arguments(self, index: int, text: str) -> None:
        if not self.calls or self.calls[-1].index != index:
            self.calls.append(CallDelta(index, function=FunctionDelta(arguments="")))
        function = self.calls[-1].function
        function.arguments += text
