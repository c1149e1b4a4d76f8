"""Owns how log-probabilities look in answers: one shape for completions, another for chat."""

from collections.abc import Sequence

import msgspec

from loraplex.engine.request import TokenLogprob
from loraplex.engine.tokenizer import Tokenizer

# JSON has no minus infinity; OpenAI writes this for what is practically impossible.
LEAST = -9999.0


class CompletionLogprobs(msgspec.Struct):
    """Four lists with one entry per token; offsets count characters from the beginning of the text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
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


def completion_logprobs(
    entries: Sequence[TokenLogprob], tokenizer: Tokenizer, offset: int
) -> CompletionLogprobs:
    """The entries of a text that starts at character `offset` of the answer."""
    tokens = [tokenizer.token_text(entry.token_id) for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    wanted = any(entry.top for entry in entries)
    return CompletionLogprobs(
        tokens,
        [_finite(entry.logprob) for entry in entries],
        [_top(entry, tokenizer) for entry in entries] if wanted else None,
        offsets,
    )


def chat_logprobs(entries: Sequence[TokenLogprob], tokenizer: Tokenizer) -> ChatLogprobs:
    """The entries of a message."""
    content = []
    for entry in entries:
        token = tokenizer.token_text(entry.token_id)
        top = []
        for token_id, logprob in entry.top:
            text = tokenizer.token_text(token_id)
            top.append(TopLogprob(text, _finite(logprob), _bytes(text)))
        content.append(TokenEntry(token, _finite(entry.logprob), _bytes(token), top))
    return ChatLogprobs(content)


def _top(entry: TokenLogprob, tokenizer: Tokenizer) -> dict[str, float]:
    """The most likely tokens and the chosen one. Different tokens can have one text; the likelier one counts."""
    result: dict[str, float] = {}
    for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
        text = tokenizer.token_text(token_id)
        result[text] = max(_finite(logprob), result.get(text, LEAST))
    return result


def _bytes(text: str) -> list[int] | None:
    """None for a piece of a character, whose own bytes the decoded text no longer shows."""
    return None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())


def _finite(logprob: float) -> float:
    return max(logprob, LEAST)
