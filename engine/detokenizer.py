"""Owns turning a growing list of token ids into text piece by piece, and spotting stop strings on the way."""

from typing import NamedTuple

from loraplex.engine.tokenizer import Tokenizer

# Tokens of the prompt decoded along, so that a tokenizer which drops a leading space keeps it in a continuation.
_CONTEXT_TOKENS = 5
# Tokens after which decoding starts from a later point; until then one decode per token is enough.
_WINDOW_TOKENS = 16
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextDelta(NamedTuple):
    """New text that can be handed over, and whether a stop string ended the sequence."""

    text: str
    stopped: bool


class Detokenizer:
    """Incremental decoding of one sequence.

    Text is held back while its last character is incomplete (bytes of a multi-byte character arrive in several
    tokens) or while its end could be the beginning of a stop string.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: tuple[int, ...], stop: tuple[str, ...]
    ) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt_ids[-_CONTEXT_TOKENS:])
        # ids[prefix:] are decoded together, so that the joint between old and new tokens gets its right text; `_known`
        # is the text of ids[prefix:read], which has been handed on.
        self._prefix = 0
        self._read = len(self._ids)
        self._known = tokenizer.decode(self._ids)
        self._stop = stop
        self._held = ""

    def append(self, token_ids: tuple[int, ...], *, check_stop: bool) -> TextDelta:
        """Add tokens; with `check_stop` a stop string ends the text in front of it."""
        self._ids.extend(token_ids)
        text, stopped = self._release(self._decode_new(), check_stop=check_stop)
        if stopped or not self._stop or not check_stop:
            # Text before stops are looked for never takes part in one.
            return TextDelta(text, stopped)
        keep = max(_overlap(text, stop) for stop in self._stop)
        cut = len(text) - keep
        self._held = text[cut:]
        return TextDelta(text[:cut], stopped=False)

    def flush(self, *, check_stop: bool) -> TextDelta:
        """Everything still held back; call when the sequence ends without a stop string."""
        return self._release(self._decode_new(final=True), check_stop=check_stop)

    def _release(self, new: str, *, check_stop: bool) -> TextDelta:
        """What was held back and what is new, up to a stop string."""
        text, self._held = self._held + new, ""
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0 and check_stop]
        return (
            TextDelta(text[: min(found)], stopped=True) if found else TextDelta(text, stopped=False)
        )

    def _decode_new(self, *, final: bool = False) -> str:
        text = self._tokenizer.decode(self._ids[self._prefix :])
        # Special tokens have no text, and bytes may never make a character; neither may keep the window growing.
        waited = len(self._ids) - self._read > _WINDOW_TOKENS
        quiet = len(text) <= len(self._known) or text.endswith(_INCOMPLETE)
        if quiet and not final and not waited:
            return ""
        new = text[len(self._known) :]
        before, self._read, self._known = self._read, len(self._ids), text
        if self._read - self._prefix > _WINDOW_TOKENS:
            self._prefix = before
            self._known = self._tokenizer.decode(self._ids[before:])
        return new


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
