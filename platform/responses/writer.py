"""Owns how what an engine tells becomes a response."""

from loraplex.engine.request import TokenLogprob
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Counter
from loraplex.platform.inference.chat_events import (
    ArgumentsDelta,
    CallBegin,
    ChatEvent,
    ChatReader,
    Finish,
    ReasoningDelta,
    TextDelta,
)
from loraplex.platform.inference.logprobs import chat_logprobs
from loraplex.platform.responses.bodies import (
    InputDetails,
    OutputDetails,
    Response,
    ResponseStatus,
    Usage,
)
from loraplex.platform.responses.items import Logprob, TopLogprob
from loraplex.platform.responses.transcript import Transcript


class ResponseWriter:
    """One response, from the deltas of its only choice."""

    def __init__(self, transcript: Transcript, reader: ChatReader, tokenizer: Tokenizer) -> None:
        self.transcript = transcript
        self._reader = reader
        self._tokenizer = tokenizer
        self._counter = Counter(1, 1)
        self._cut = False
        self._untold: list[TokenLogprob] = []  # their text has not come yet
        self._told = 0

    @property
    def response(self) -> Response:
        """As far as it is written."""
        return self.transcript.response

    def see(self, delta: Delta) -> None:
        """What came."""
        self._counter.see(0, delta)
        self._untold += delta.logprobs or ()
        for event in self._reader.read(delta):
            self._write(event)

    def end(self) -> None:
        """It has ended by itself."""
        self.break_off("incomplete" if self._cut else "completed")

    def break_off(self, status: ResponseStatus, failure: str | None = None) -> None:
        """It ends, in this state."""
        usage = self._counter.usage()
        self.transcript.end(
            status,
            Usage(
                usage.prompt_tokens,
                InputDetails(usage.prompt_tokens_details.cached_tokens),
                usage.completion_tokens,
                OutputDetails(self._reader.reasoning_tokens),
                usage.total_tokens,
            ),
            failure,
        )

    def _write(self, event: ChatEvent) -> None:
        transcript = self.transcript
        match event:
            case TextDelta(text):
                transcript.text(text, self._logprobs())
            case ReasoningDelta(text):
                transcript.reasoning(text)
            case CallBegin(_, call_id, name):
                transcript.call(call_id, name)
            case ArgumentsDelta(_, text):
                self._logprobs()  # those of calls are told to nobody
                transcript.arguments(text)
            case Finish(reason):
                self._cut = reason == "length"
                if transcript.is_speaking and (rest := self._logprobs()):
                    transcript.text("", rest)

    def _logprobs(self) -> list[Logprob]:
        """Of the tokens since the last call, without those of thoughts, which come first."""
        if not self._untold:
            return []
        thoughts = max(0, self._reader.reasoning_tokens - self._told)
        entries, self._untold = self._untold, []
        self._told += len(entries)
        return [
            Logprob(
                entry.token,
                entry.bytes or [],
                entry.logprob,
                [TopLogprob(top.token, top.bytes or [], top.logprob) for top in entry.top_logprobs],
            )
            for entry in chat_logprobs(entries[thoughts:], self._tokenizer).content
        ]
