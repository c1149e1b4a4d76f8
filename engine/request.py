"""Owns what goes into the engine and what comes out: `Request`, `Output`, and the error of a request that cannot be
served. Imports no torch, so that API workers can use it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from loraplex.engine.sampling_params import SamplingParams


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-sequence token, stop string or stop token
    LENGTH = "length"  # max_tokens or the context length
    ABORT = "abort"  # the caller cancelled
    ERROR = "error"  # `Output.error` says why
    REFUSED = "refused"  # it can never be served, as was found out after `Engine.add`; `Output.error` says why


class InvalidRequestError(ValueError):
    """A request the engine can never serve; `param` and `code` follow the OpenAI error body."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Share(NamedTuple):
    """Whose turn a request takes, and how much of the engine that party may have.

    Attributes:
        client: any number; all requests with the same one share what they get. It is not compared for order.
        weight: a client with weight 2 gets twice the tokens of one with weight 1 while both wait; above 0. The
            client's newest request decides.
        client_limit, adapter_limit: most sequences of the client, and of the request's adapter, that may run at once
            for this request to join them; at least 1, None for no limit.
    """

    client: int = 0
    weight: float = 1.0
    client_limit: int | None = None
    adapter_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    Attributes:
        request_id: unique among unfinished requests.
        prompt_ids: at least one token id.
        adapter: handle of the adapter, None for the base model.
        cache_salt: opaque bytes; only requests with equal salt and adapter share prefix-cache blocks.
        priority: lower is served earlier; only among the requests of one client.
        share: whose turn it takes.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: int | None = None
    cache_salt: bytes = b""
    priority: int = 0
    share: Share = field(default_factory=Share)


class Timings(NamedTuple):
    """Where the time of one request went, from the call of `Engine.add` to its last output. The four times are
    disjoint and add up to all of it.

    Attributes:
        queue: seconds it waited, also after a preemption, though its adapter was on the device (or it has none).
        load: seconds it waited while its adapter was not on the device.
        prefill: seconds it ran before its first token was read.
        decode: seconds it ran after that.
        preemptions: how often it was made to give its KV blocks back.
        evicted_by: if it found its adapter gone from the device, the handle of the adapter whose arrival had pushed it
            out, or `EVICTED_BY_KV`; None if the adapter was there or had never been.
    """

    queue: float
    load: float
    prefill: float
    decode: float
    preemptions: int
    evicted_by: int | None


# `Timings.evicted_by` when the KV blocks of sequences took the adapter's memory. No handle is negative.
EVICTED_BY_KV = -1


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
        timings: set on the last output of a request.
        prompt_logprobs: on the first output of a request that asked for them, one per prompt token but the first.
        embedding: on the only output of a request for a vector: that, [hidden size] little-endian float32.
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
    timings: Timings | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    embedding: bytes | None = None
