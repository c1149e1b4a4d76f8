"""Owns how log-probabilities look in answers: one shape for completions, another for chat."""

from collections.abc import Sequence

import msgspec

from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.request import TokenLogprob
from loraplex.engine.tokenizer import Tokenizer

# JSON has no minus infinity; OpenAI writes this for what is practically impossible.
LEAST = -9999.0
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class CompletionLogprobs(msgspec.Struct):
    """Four lists with one entry per token; offsets count characters from the beginning of the text. Nothing predicts
    the first token of an echoed prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenEntry(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    content: list[TokenEntry]
    refusal: None = None


class TokenList:
    """Writes the tokens of one completion down, in as many pieces as they come."""

    def __init__(self, tokenizer: Tokenizer, context: tuple[int, ...] = ()) -> None:
        """`context` is what the text continues without repeating it."""
        self._tokenizer = tokenizer
        self._text = Detokenizer(tokenizer, context, ())
        self._at = 0

    def entries(
        self, entries: Sequence[TokenLogprob], first: int | None = None
    ) -> CompletionLogprobs:
        """The next tokens, behind a `first` one that has no log-probability if that is given."""
        tokenizer, alone = self._tokenizer, [] if first is None else [first]
        ids = [*alone, *(entry.token_id for entry in entries)]
        top = None
        if any(entry.top for entry in entries):
            top = [*(None for _ in alone), *(_top(entry, tokenizer) for entry in entries)]
        return CompletionLogprobs(
            [_name(token, tokenizer) for token in ids],
            [*(None for _ in alone), *(_finite(entry.logprob) for entry in entries)],
            top,
            [self._offset(token) for token in ids],
        )

    def _offset(self, token: int) -> int:
        """Where a token's text begins; that of one in the middle of a character, where the character does."""
        at = self._at
        self._at += len(self._text.append((token,), check_stop=False).text)
        return at


def chat_logprobs(entries: Sequence[TokenLogprob], tokenizer: Tokenizer) -> ChatLogprobs:
    """The entries of a message."""
    content = []
    for entry in entries:
        token = tokenizer.token_text(entry.token_id)
        top = []
        for token_id, logprob in entry.top:
            text = tokenizer.token_text(token_id)
            top.append(TopLogprob(text, _finite(logprob), _bytes(token_id, text, tokenizer)))
        own = _bytes(entry.token_id, token, tokenizer)
        content.append(TokenEntry(token, _finite(entry.logprob), own, top))
    return ChatLogprobs(content)


def _top(entry: TokenLogprob, tokenizer: Tokenizer) -> dict[str, float]:
    """The most likely tokens and the chosen one. Different tokens can have one text; the likelier one counts."""
    result: dict[str, float] = {}
    for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
        text = _name(token_id, tokenizer)
        result[text] = max(_finite(logprob), result.get(text, LEAST))
    return result


def _name(token_id: int, tokenizer: Tokenizer) -> str:
    """A token's text; of one that holds part of a character its bytes, as OpenAI writes them."""
    text = tokenizer.token_text(token_id)
    if _INCOMPLETE not in text or not (own := _bytes(token_id, text, tokenizer)):
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)


def _bytes(token_id: int, text: str, tokenizer: Tokenizer) -> list[int] | None:
    """None for a piece of a character in a tokenizer that does not say which."""
    if _INCOMPLETE not in text:
        return list(text.encode())
    if tokenizer.token_bytes is None:
        return None
    return list(tokenizer.token_bytes.joined((token_id,))) or None


def _finite(logprob: float) -> float:
    return max(logprob, LEAST)
