"""Owns what API workers and engine processes say to each other: msgspec structs, MessagePack on a local ZeroMQ socket.
Everything one step has for one API worker travels in one message."""

from enum import StrEnum

import msgspec

from loraplex.engine.request import FinishReason, TokenLogprob
from loraplex.engine.sampling_params import SamplingParams


class AdapterFile(msgspec.Struct, frozen=True, array_like=True):
    """Which adapter weights a request needs, and where the engine process finds them.

    `identity` is one opaque string per (tenant, version digest): the key of every cache.
    """

    identity: str
    weights_sha256: str
    size: int
    config: bytes


class Generate(msgspec.Struct, frozen=True, array_like=True, tag="generate"):
    """Start one generation. `epoch` is the engine life the sender means; another one ignores the message."""

    epoch: str
    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterFile | None
    cache_salt: bytes
    priority: int


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Stop these generations; nothing more is said about them."""

    request_ids: list[str]


class Purge(msgspec.Struct, frozen=True, array_like=True, tag="purge"):
    """Drop an adapter from GPU, host and disk."""

    identity: str


ToEngine = Generate | Abort | Purge


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one step added to one generation; the fields are those of `engine.request.Output`."""

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason | None
    error: str | None
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A generation that cannot start, with what the OpenAI error body needs."""

    request_id: str
    message: str
    param: str | None
    code: str | None


class Step(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """All news for one API worker. An empty one only asks whether that worker still lives."""

    deltas: list[Delta] = []
    accepted: list[str] = []
    refused: list[Refusal] = []


class Purged(msgspec.Struct, frozen=True, array_like=True, tag="purged"):
    """The adapter is gone from every tier of this engine."""

    identity: str


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The engine ends now; what it was doing is lost."""

    reason: str


FromEngine = Step | Purged | Goodbye


class EngineState(StrEnum):
    LOADING = "loading"
    READY = "ready"


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """Published twice a second whatever the engine is doing.

    Attributes:
        epoch: changes with every start of the process.
        max_model_len: longest prompt plus output, tokens; 0 while loading.
        step_seconds: age of the step under way, 0 between steps.
        stats: counters and gauges by name, renewed once a second.
    """

    epoch: str
    state: EngineState
    max_model_len: int
    step_seconds: float
    stats: dict[str, float]


def beat_endpoint(endpoint: str) -> str:
    """Where the engine listening at `endpoint` publishes its beats."""
    return f"{endpoint}.beats"
