"""Owns what goes into the engine and what comes out: `Request`, `Output`, and the error of a request that cannot be
served. Imports no torch, so that API workers can use it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from loraplex.engine.sampling_params import SamplingParams


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-sequence token, stop string or stop token
    LENGTH = "length"  # max_tokens or the context length
    ABORT = "abort"  # the caller cancelled
    ERROR = "error"  # `Output.error` says why


class InvalidRequestError(ValueError):
    """A request the engine can never serve; `param` and `code` follow the OpenAI error body."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    Attributes:
        request_id: unique among unfinished requests.
        prompt_ids: at least one token id.
        adapter: handle of the adapter, None for the base model.
        cache_salt: opaque bytes; only requests with equal salt and adapter share prefix-cache blocks.
        priority: lower is served earlier.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: int | None = None
    cache_salt: bytes = b""
    priority: int = 0


class TokenLogprob(NamedTuple):
    """Log-probability of a chosen token and of the most likely ones, natural logarithm."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Output(NamedTuple):
    """What one step added to one request. A tuple, as hundreds are made in every step.

    Attributes:
        token_ids: new tokens; a stop token that ended the sequence is among them.
        text: new text; may lag behind the tokens while a character or a stop string is incomplete.
        logprobs: one per new token if the request asked for them.
        finish_reason: set on the last output of a request.
        error: a sentence for the user when finish_reason is "error".
        prompt_tokens, cached_tokens: length of the prompt, and how much of it came from the prefix cache.
        output_tokens: tokens generated so far.
    """

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason | None
    error: str | None
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
