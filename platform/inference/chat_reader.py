"""Owns reading one choice of a chat: thoughts first, then text and calls."""

import secrets
from dataclasses import dataclass

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
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
from loraplex.platform.inference.reasoning import Marks, Stage, ThoughtCounter, ThoughtSplitter
from loraplex.platform.inference.tool_parsers.port import (
    Arguments,
    Begin,
    Piece,
    Text,
    ToolFormat,
    ToolParser,
)

# Characters that a parser gets at once: for each mark in a text it copies what is left of it.
PIECE = 4096


@dataclass(frozen=True, slots=True)
class Reading:
    """How the choices of one answer are read.

    Attributes:
        marks: of thoughts; None if the model has none.
        stage: where its answers begin.
        tools: how it writes calls; None if it may make none.
        names: of the functions it may call.
        single: no call after the first one is handed over.
        opening: what of the first call is in the prompt, because there must be one.
    """

    marks: Marks | None = None
    stage: Stage = Stage.SAYING
    tools: ToolFormat | None = None
    names: frozenset[str] = frozenset()
    single: bool = False
    opening: str = ""

    def readers(self, tokenizer: Tokenizer) -> Readers:
        """Makes the reader of one choice."""
        if self.tools is None and (self.marks is None or self.stage is Stage.SAYING):
            return PlainReader
        return lambda: _Reader(self, tokenizer)


class _Reader:
    """See `ChatReader`."""

    def __init__(self, reading: Reading, tokenizer: Tokenizer) -> None:
        self._splitter: ThoughtSplitter | None = None
        self._counter: ThoughtCounter | None = None
        if reading.marks is not None and reading.stage is not Stage.SAYING:
            self._splitter = ThoughtSplitter(reading.marks, reading.stage)
            self._counter = ThoughtCounter(reading.marks, tokenizer)
        self._parser: ToolParser | None = None
        if reading.tools is not None:
            self._parser = reading.tools.parser(reading.names)
            self._parser.feed(reading.opening)
        self._most = 1 if reading.single else None
        self._calls = 0
        self._dropping = False

    @property
    def reasoning_tokens(self) -> int:
        if self._counter is None or self._splitter is None or not self._splitter.thought:
            return 0
        return self._counter.tokens

    def read(self, delta: Delta) -> list[ChatEvent]:
        """See `ChatReader.read`."""
        events: list[ChatEvent] = []
        text = delta.text
        if self._splitter is not None and not self._splitter.done:
            text = self._think(self._splitter, delta, events)
        self._say(text, events)
        if delta.finish_reason is None:
            return events
        if self._splitter is not None:
            thought, said = self._splitter.end()
            events += [ReasoningDelta(thought)] if thought else []
            self._say(said, events)
        if self._parser is not None:
            self._tell(self._parser.end(), events)
        if delta.finish_reason == "length":
            events.append(Finish("length"))
        else:
            events.append(Finish("tool_calls" if self._calls else "stop"))
        return events

    def _think(self, splitter: ThoughtSplitter, delta: Delta, events: list[ChatEvent]) -> str:
        assert self._counter is not None
        thought, said = splitter.feed(delta.text)
        self._counter.see(delta.token_ids, thought)
        if thought:
            events.append(ReasoningDelta(thought))
        return said

    def _say(self, text: str, events: list[ChatEvent]) -> None:
        if not text:
            return
        if self._parser is None:
            events.append(TextDelta(text))
        else:
            for at in range(0, len(text), PIECE):
                self._tell(self._parser.feed(text[at : at + PIECE]), events)

    def _tell(self, pieces: list[Piece], events: list[ChatEvent]) -> None:
        for piece in pieces:
            match piece:
                case Text(text):
                    events.append(TextDelta(text))
                case Begin(name):
                    self._dropping = self._calls == self._most
                    if not self._dropping:
                        index, call_id = self._calls, f"call_{secrets.token_hex(12)}"
                        self._calls += 1
                        events.append(CallBegin(index, call_id, name))
                case Arguments(text) if not self._dropping:
                    events.append(ArgumentsDelta(self._calls - 1, text))
