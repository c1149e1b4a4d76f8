"""Owns how what an engine tells becomes a message."""

from collections.abc import Sequence

import msgspec

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
from loraplex.platform.event_stream import named_frame
from loraplex.platform.inference.answer import Counter, Heading
from loraplex.platform.inference.chat_events import (
    ArgumentsDelta,
    CallBegin,
    ChatEvent,
    ChatFinish,
    ChatReader,
    Finish,
    ReasoningDelta,
)
from loraplex.platform.inference.chat_events import TextDelta as Said
from loraplex.platform.messages.bodies import (
    Answer,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Ending,
    Event,
    InputDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    Usage,
)

_REASONS: dict[ChatFinish, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


class MessageWriter:
    """One message, from the deltas of its only choice. Blocks come one after another: what opens one closes the one
    before.

    Attributes:
        answer: as far as it is written; blocks are in it when they are whole.
    """

    def __init__(
        self,
        heading: Heading,
        reader: ChatReader,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        *,
        streams: bool,
    ) -> None:
        """Frames are written only if it `streams`."""
        self.answer = Answer(heading.id, heading.model, [], Usage(0, 0, 0))
        self._reader = reader
        self._tokenizer = tokenizer
        self._stops = stops
        self._streams = streams
        self._counter = Counter(1, 1)
        self._begun = False
        self._open: Block | None = None
        self._pieces: list[str] = []
        self._ids: list[int] = []
        self._length = 0
        self._frames = bytearray()
        self._closing = b""

    def take(self) -> bytes:
        """The frames since the last call."""
        frames, self._frames = bytes(self._frames), bytearray()
        return frames

    def closing(self) -> bytes:
        """The last frames, which tell how it ended; after the last delta."""
        return self._closing

    def see(self, delta: Delta) -> None:
        """What came."""
        self._counter.see(0, delta)
        self.answer.usage = self._usage()
        if not self._begun:
            self._begun = True
            self._tell(MessageStart(self.answer))
        if self._stops:
            self._ids += delta.token_ids
            self._length += len(delta.text)
        for event in self._reader.read(delta):
            self._write(event)

    def _write(self, event: ChatEvent) -> None:
        match event:
            case Said(text):
                if not isinstance(self._open, TextBlock):
                    self._begin(TextBlock(""))
                self._add(text, TextDelta(text))
            case ReasoningDelta(text):
                if not isinstance(self._open, ThinkingBlock):
                    self._begin(ThinkingBlock(""))
                self._add(text, ThinkingDelta(text))
            case CallBegin(_, call_id, name):
                self._begin(ToolUseBlock(f"toolu_{call_id.removeprefix('call_')}", name, {}))
            case ArgumentsDelta(_, text):
                self._add(text, InputDelta(text))
            case Finish(reason):
                self._end(reason)

    def _begin(self, block: Block) -> None:
        self._end_block()
        self._open = block
        self._tell(BlockStart(self._index, block))

    def _add(self, text: str, delta: TextDelta | ThinkingDelta | InputDelta) -> None:
        self._pieces.append(text)
        self._tell(BlockDelta(self._index, delta))

    def _end_block(self) -> None:
        block, text = self._open, "".join(self._pieces)
        match block:
            case None:
                return
            case TextBlock():
                block.text = text
            case ThinkingBlock():
                block.thinking = text
            case ToolUseBlock():
                block.input = _input(text)
        self._tell(BlockStop(self._index))
        self.answer.content.append(block)
        self._open = None
        self._pieces = []

    def _end(self, reason: ChatFinish) -> None:
        self._end_block()
        answer = self.answer
        answer.stop_reason = _REASONS[reason]
        if reason == "stop" and (stop := self._stop()) is not None:
            answer.stop_reason, answer.stop_sequence = "stop_sequence", stop
        ending = Ending(answer.stop_reason, answer.stop_sequence)
        self._closing = frame(MessageDelta(ending, answer.usage)) + frame(MessageStop())

    def _stop(self) -> str | None:
        """The stop sequence that ended the text, if one did: it is what the tokens say behind what was handed over."""
        if not self._stops:
            return None
        text = self._tokenizer.decode(self._ids)
        # What comes first in a text may be told with a space more or less.
        found = [(text.find(stop, max(0, self._length - 1)), stop) for stop in self._stops]
        return min(((at, stop) for at, stop in found if at >= 0), default=(0, None))[1]

    def _usage(self) -> Usage:
        usage = self._counter.usage()
        cached = usage.prompt_tokens_details.cached_tokens
        return Usage(usage.prompt_tokens - cached, cached, usage.completion_tokens)

    @property
    def _index(self) -> int:
        return len(self.answer.content)

    def _tell(self, event: Event) -> None:
        if self._streams:
            self._frames += frame(event)


def frame(event: Event) -> bytes:
    """An event as it is sent."""
    name = str(type(event).__struct_config__.tag)
    return named_frame(name, msgspec.json.encode(event))


def _input(arguments: str) -> dict[str, object]:
    """Arguments as an object. Those that are none, which a model can write, are handed on as they are."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return {"arguments": arguments}
