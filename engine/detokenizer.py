"""Owns turning a growing list of token ids into text piece by piece, and spotting stop strings on the way."""

from typing import NamedTuple, Protocol

from loraplex.engine.token_bytes import TokenBytes, decode_start
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


class TextStream(Protocol):
    """The text of a growing list of tokens, as far as later tokens cannot change it."""

    def add(self, token_ids: tuple[int, ...]) -> str:
        """The text that these tokens complete."""
        ...

    def rest(self) -> str:
        """What is still incomplete at the end."""
        ...


class ByteStream:
    """For tokenizers whose tokens are bytes whatever stands beside them: the text is that of all tokens decoded
    together, to the letter, at one look-up per token (0.5 us instead of 6 to 7 us for a decoded window)."""

    def __init__(self, token_bytes: TokenBytes, prompt_ids: tuple[int, ...]) -> None:
        self._token_bytes = token_bytes
        _, self._tail = decode_start(token_bytes.joined(prompt_ids[-_CONTEXT_TOKENS:]))
        # A character begun in the prompt has been shown there, as the mark of an incomplete one.
        self._shown = len(self._tail) > 0

    def add(self, token_ids: tuple[int, ...]) -> str:
        data = self._token_bytes.joined(token_ids)
        if not self._tail and data.isascii():
            return data.decode("ascii")
        text, self._tail = decode_start(self._tail + data)
        return self._unseen(text)

    def rest(self) -> str:
        text, self._tail = self._tail.decode(errors="replace"), b""
        return self._unseen(text)

    def _unseen(self, text: str) -> str:
        if self._shown and text:
            self._shown = False
            return text[1:]
        return text


class WindowStream:
    """For all other tokenizers: the last tokens are decoded together again and again, and what is new is told apart."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt_ids[-_CONTEXT_TOKENS:])
        # ids[prefix:] are decoded together, so that the joint between old and new tokens gets its right text; `_known`
        # is the text of ids[prefix:read], which has been handed on.
        self._prefix = 0
        self._read = len(self._ids)
        self._known = tokenizer.decode(self._ids)

    def add(self, token_ids: tuple[int, ...]) -> str:
        self._ids.extend(token_ids)
        return self._decode_new()

    def rest(self) -> str:
        return self._decode_new(final=True)

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


class Detokenizer:
    """Incremental decoding of one sequence.

    Text is held back while its last character is incomplete (bytes of a multi-byte character arrive in several
    tokens) or while its end could be the beginning of a stop string.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: tuple[int, ...],
        stop: tuple[str, ...],
        visible: tuple[int, ...] = (),
    ) -> None:
        """`visible` are special tokens that are part of the text."""
        token_bytes = tokenizer.token_bytes
        self._stream: TextStream = (
            WindowStream(tokenizer, prompt_ids)
            if token_bytes is None
            else ByteStream(token_bytes, prompt_ids)
        )
        self._visible = {token: tokenizer.token_text(token) for token in visible}
        self._stop = stop
        self._held = ""

    def append(self, token_ids: tuple[int, ...], *, check_stop: bool) -> TextDelta:
        """Add tokens; with `check_stop` a stop string ends the text in front of it."""
        new = self._read(token_ids) if self._visible else self._stream.add(token_ids)
        if not self._stop:
            return TextDelta(new, stopped=False)
        text, stopped = self._release(new, check_stop=check_stop)
        if stopped or not check_stop:
            # Text before stops are looked for never takes part in one.
            return TextDelta(text, stopped)
        keep = max(_overlap(text, stop) for stop in self._stop)
        cut = len(text) - keep
        self._held = text[cut:]
        return TextDelta(text[:cut], stopped=False)

    def flush(self, *, check_stop: bool) -> TextDelta:
        """Everything still held back; call when the sequence ends without a stop string."""
        return self._release(self._stream.rest(), check_stop=check_stop)

    def _read(self, token_ids: tuple[int, ...]) -> str:
        text = ""
        for token in token_ids:
            special = self._visible.get(token)
            # No character goes on behind a special token.
            text += self._stream.add((token,)) if special is None else self._stream.rest() + special
        return text

    def _release(self, new: str, *, check_stop: bool) -> TextDelta:
        """What was held back and what is new, up to a stop string."""
        text, self._held = self._held + new, ""
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0 and check_stop]
        return (
            TextDelta(text[: min(found)], stopped=True) if found else TextDelta(text, stopped=False)
        )


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
