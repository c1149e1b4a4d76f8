"""Owns writing a response down as it comes: its items, and the events that tell of them."""

import time

import msgspec

from loraplex.platform.event_stream import named_frame
from loraplex.platform.inference.answer import padding
from loraplex.platform.responses import events
from loraplex.platform.responses.bodies import (
    Failure,
    Incomplete,
    Response,
    ResponseStatus,
    Usage,
)
from loraplex.platform.responses.items import (
    CallItem,
    Item,
    Logprob,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
    new_id,
)

_ENDS: dict[str, type[events.Completed | events.IncompleteEvent | events.Failed]] = {
    "completed": events.Completed,
    "incomplete": events.IncompleteEvent,
    "failed": events.Failed,
}


class Transcript:
    """One response. Items come one after another: what opens one closes the one before.

    Attributes:
        response: as far as it is written; items are in it when they are whole.
    """

    def __init__(
        self, response: Response, *, streams: bool, obfuscates: bool = False, logprobs: bool = False
    ) -> None:
        """Frames are written only if it `streams`."""
        self.response = response
        self._streams = streams
        self._obfuscates = obfuscates
        self._wants_logprobs = logprobs
        self._open: Item | None = None
        self._pieces: list[str] = []
        self._logprobs: list[Logprob] = []
        self._frames = bytearray()
        self._number = 0
        self._encoder = msgspec.json.Encoder()

    @property
    def is_speaking(self) -> bool:
        """Whether a message is being written."""
        return isinstance(self._open, MessageItem)

    def take(self) -> bytes:
        """The frames since the last call."""
        frames, self._frames = bytes(self._frames), bytearray()
        return frames

    def begin(self) -> None:
        """The response is there and at work."""
        self._tell(events.Created(sequence_number=self._next(), response=self.response))
        self._tell(events.InProgress(sequence_number=self._next(), response=self.response))

    def text(self, delta: str, logprobs: list[Logprob]) -> None:
        """More of what it says."""
        if not self.is_speaking:
            message = MessageItem(
                id=new_id(MessageItem), role="assistant", content=[], status="in_progress"
            )
            self._begin_item(message)
            self._tell_part(OutputText(text=""), message)
        self._pieces.append(delta)
        self._logprobs += logprobs
        self._tell(
            events.TextDelta(
                sequence_number=self._next(),
                item_id=self._item.id,
                output_index=self._index,
                delta=delta,
                logprobs=_without_bytes(logprobs),
                obfuscation=self._padding(),
            )
        )

    def reasoning(self, delta: str) -> None:
        """More of what it thinks."""
        if not isinstance(self._open, ReasoningItem):
            item = ReasoningItem(id=new_id(ReasoningItem), content=[], status="in_progress")
            self._begin_item(item)
            self._tell_part(ReasoningText(""), item)
        self._pieces.append(delta)
        self._tell(
            events.ReasoningDelta(
                sequence_number=self._next(),
                item_id=self._item.id,
                output_index=self._index,
                delta=delta,
                obfuscation=self._padding(),
            )
        )

    def call(self, call_id: str, name: str) -> None:
        """It calls a function, whose arguments follow."""
        self._begin_item(
            CallItem(
                id=new_id(CallItem),
                call_id=call_id,
                name=name,
                arguments="",
                status="in_progress",
            )
        )

    def arguments(self, delta: str) -> None:
        """More of the arguments of the function that was called last."""
        self._pieces.append(delta)
        self._tell(
            events.ArgumentsDelta(
                sequence_number=self._next(),
                item_id=self._item.id,
                output_index=self._index,
                delta=delta,
                obfuscation=self._padding(),
            )
        )

    def end(self, status: ResponseStatus, usage: Usage, failure: str | None = None) -> None:
        """It ends; the last event is told by `tell_end`, when the response is kept. Nothing follows."""
        whole = status == "completed"
        if self._open is None and not self.response.output and failure is None:
            self.text("", [])
        self._end_item("completed" if whole else "incomplete")
        self.response.status = status
        self.response.usage = usage
        if whole:
            self.response.completed_at = int(time.time())
        if status == "incomplete":
            self.response.incomplete_details = Incomplete("max_output_tokens")
        if failure is not None:
            self.response.error = Failure("server_error", failure)

    def tell_end(self) -> None:
        """The last event. There is none for a response that was cancelled: nobody reads it."""
        kind = _ENDS.get(self.response.status)
        if kind is not None:
            self._tell(kind(sequence_number=self._next(), response=self.response))

    def tell_error(self, code: str | None, message: str) -> None:
        """In place of the last event: how it ended could not be kept."""
        number = self._next()
        self._tell(events.Error(sequence_number=number, code=code, message=message, param=None))

    @property
    def _item(self) -> Item:
        assert self._open is not None
        return self._open

    @property
    def _index(self) -> int:
        return len(self.response.output)

    def _begin_item(self, item: Item) -> None:
        self._end_item("completed")
        self._open = item
        number = self._next()
        self._tell(events.ItemAdded(sequence_number=number, output_index=self._index, item=item))

    def _tell_part(self, part: OutputText | ReasoningText, item: Item) -> None:
        if isinstance(part, OutputText):
            part.logprobs = []
        self._tell(
            events.PartAdded(
                sequence_number=self._next(),
                item_id=item.id,
                output_index=self._index,
                part=part,
            )
        )

    def _end_item(self, status: Status) -> None:
        item = self._open
        if item is None:
            return
        text = "".join(self._pieces)
        match item:
            case MessageItem():
                self._end_message(item, text)
            case ReasoningItem():
                self._end_reasoning(item, text)
            case CallItem():
                self._end_call(item, text)
        item.status = status
        self._tell(
            events.ItemDone(sequence_number=self._next(), output_index=self._index, item=item)
        )
        self.response.output.append(item)
        self._open = None
        self._pieces, self._logprobs = [], []

    def _end_message(self, item: MessageItem, text: str) -> None:
        part = OutputText(text=text)
        if self._wants_logprobs:
            part.logprobs = self._logprobs
        item.content.append(part)
        self._tell(
            events.TextDone(
                sequence_number=self._next(),
                item_id=item.id,
                output_index=self._index,
                text=text,
                logprobs=_without_bytes(self._logprobs),
            )
        )
        self._tell_part_done(part, item)

    def _end_reasoning(self, item: ReasoningItem, text: str) -> None:
        part = ReasoningText(text)
        item.content.append(part)
        self._tell(
            events.ReasoningDone(
                sequence_number=self._next(),
                item_id=item.id,
                output_index=self._index,
                text=text,
            )
        )
        self._tell_part_done(part, item)

    def _end_call(self, item: CallItem, text: str) -> None:
        item.arguments = text
        self._tell(
            events.ArgumentsDone(
                sequence_number=self._next(),
                item_id=item.id,
                output_index=self._index,
                name=item.name,
                arguments=text,
            )
        )

    def _tell_part_done(self, part: OutputText | ReasoningText, item: Item) -> None:
        self._tell(
            events.PartDone(
                sequence_number=self._next(),
                item_id=item.id,
                output_index=self._index,
                part=part,
            )
        )

    def _next(self) -> int:
        number, self._number = self._number, self._number + 1
        return number

    def _padding(self) -> str | msgspec.UnsetType:
        return padding() if self._obfuscates else msgspec.UNSET

    def _tell(self, event: events.Event) -> None:
        if self._streams:
            name = str(type(event).__struct_config__.tag)
            self._frames += named_frame(name, self._encoder.encode(event))


def _without_bytes(logprobs: list[Logprob]) -> list[events.TokenLogprob]:
    return [
        events.TokenLogprob(
            entry.token,
            entry.logprob,
            [events.TokenTop(top.token, top.logprob) for top in entry.top_logprobs],
        )
        for entry in logprobs
    ]
