"""Owns what API workers and engine processes say to each other: msgspec structs, MessagePack on a local ZeroMQ socket.
Everything one step has for one API worker travels in one message."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from loraplex.engine.request import FinishReason, Timings, TokenLogprob
from loraplex.engine.sampling_params import SamplingParams


class AdapterFile(msgspec.Struct, frozen=True, array_like=True):
    """Which adapter weights a request needs, and where the engine process finds them.

    `identity` is one opaque string per (tenant, version digest): the key of every cache.
    """

    identity: str
    weights_sha256: str
    size: int
    config: bytes


class TenantShare(msgspec.Struct, frozen=True, array_like=True):
    """Whose turn a request takes; see `engine.request.Share`, which knows tenants by numbers.

    Attributes:
        tenant: its id.
        weight: above 0; a tenant with weight 2 gets twice the tokens of one with weight 1 while both wait.
        max_running, adapter_max_running: most requests of the tenant, and of the adapter version, at work at once.
    """

    tenant: str = ""
    weight: float = 1.0
    max_running: int | None = None
    adapter_max_running: int | None = None


# Whoever names no tenant.
NOBODY = TenantShare()


class Generate(msgspec.Struct, frozen=True, array_like=True, tag="generate"):
    """Start one generation. `epoch` is the engine life the sender means; another one ignores the message.

    `account` is the id of the ledger row it counts for, of whose generations it is number `choice` and answers prompt
    number `prompt`; one with an account leaves a `Final` behind.
    """

    epoch: str
    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterFile | None
    cache_salt: bytes
    priority: int
    share: TenantShare = NOBODY
    account: bytes = b""
    choice: int = 0
    prompt: int = 0


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Stop these generations; nothing more is said about them."""

    request_ids: list[str]


class Purge(msgspec.Struct, frozen=True, array_like=True, tag="purge"):
    """Drop an adapter from GPU, host and disk. One that comes again with the same number is the same wish."""

    number: int
    identity: str


class Pin(msgspec.Struct, frozen=True, array_like=True, tag="pin"):
    """These adapters, and no others, are to stay on the device whether they are used or not."""

    adapters: list[AdapterFile]


class Describe(msgspec.Struct, frozen=True, array_like=True, tag="describe"):
    """Ask for a `Description`."""

    number: int


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag="acknowledge"):
    """What these accounts took is written down; the engine need not remember it any more."""

    accounts: list[bytes]


class Finals(msgspec.Struct, frozen=True, array_like=True, tag="finals"):
    """Ask for the `FinalsOf` these accounts."""

    number: int
    accounts: list[bytes]


ToEngine = Generate | Abort | Purge | Pin | Describe | Acknowledge | Finals


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one step added to one generation; the fields are those of `engine.request.Output`, and last the identity of
    the adapter `timings.evicted_by` speaks of, or `EVICTED_BY_KV`."""

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
    evicted_by: str | None = None


# The code of a refusal that is no fault of the request: it may be tried again.
STRUCTURES_FULL = "structures_full"


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
    """The adapter is gone from every tier of this engine. The numbers are what was there to remove.

    Attributes:
        pages: pages of device memory overwritten with zeros.
        blocks: KV blocks made unfindable.
        host_entries, disk_files: copies removed from the host's memory and the disk.
        requests: unfinished requests that were ended with an error.
    """

    number: int
    identity: str
    pages: int = 0
    blocks: int = 0
    host_entries: int = 0
    disk_files: int = 0
    requests: int = 0


class Tier(StrEnum):
    """The fastest place an adapter is in; one that is in none of them is in the database."""

    DEVICE = "device"
    LOADING = "loading"
    HOST = "host"
    DISK = "disk"
    DATABASE = "database"


class Traffic(NamedTuple):
    """What was asked and written."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


class AdapterState(msgspec.Struct, array_like=True):
    """One adapter as an engine knows it. Numbers count since the engine's start, or since it last forgot the adapter.

    Attributes:
        device_bytes, host_bytes, disk_bytes: what it takes in each tier.
        loads, load_seconds: copies to the device, and the time from wanting it there to having it.
        hits: admissions that found it on the device. evictions: times it was pushed out.
        requests, prompt_tokens, output_tokens: what was asked of it and handed over.
        last_evicted_by: identity of the adapter that pushed it out last, or `EVICTED_BY_KV`.
        series: what it adds to metrics under its own name, if it is among the busiest; see `Description.other`.
    """

    identity: str
    tier: Tier = Tier.DATABASE
    device_bytes: int = 0
    host_bytes: int = 0
    disk_bytes: int = 0
    pinned: bool = False
    loads: int = 0
    load_seconds: float = 0.0
    hits: int = 0
    evictions: int = 0
    last_evicted_by: str | None = None
    running: int = 0
    waiting: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    series: Traffic | None = None


class Description(msgspec.Struct, frozen=True, array_like=True, tag="description"):
    """Every adapter the engine knows of, in answer to `Describe`. `other` is the traffic of all adapters while they had
    no series of their own: like each of the series it only grows."""

    number: int
    adapters: list[AdapterState]
    other: Traffic = Traffic()


class Final(msgspec.Struct, frozen=True, array_like=True):
    """How a generation ended, remembered by the engine until its account is acknowledged.

    Attributes:
        account, choice, prompt: see `Generate`.
        finish_reason: "stop", "length" or "error" as the engine ended it; "cancelled": its worker aborted it; "lost":
            its worker was gone.
        prompt_tokens, cached_tokens: of its prompt.
        output_tokens: those sent to its worker.
        seconds: since the engine took it on.
        timings, evicted_by: None unless the engine ended it; see `Delta`.
    """

    account: bytes
    choice: int
    prompt: int
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float = 0.0
    timings: Timings | None = None
    evicted_by: str | None = None


class FinalsOf(msgspec.Struct, frozen=True, array_like=True, tag="finals_of"):
    """What an engine knows of accounts, in answer to `Finals`: generations that have ended, and the accounts for which
    some still run. Of one that is in neither it knows nothing."""

    number: int
    finals: list[Final]
    running: list[bytes]


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The engine ends now; what it was doing is lost."""

    reason: str


FromEngine = Step | Purged | Description | FinalsOf | Goodbye


# Stands for an adapter's identity where sequences' KV took its memory.
EVICTED_BY_KV = "kv"


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
        device: what the engine runs on, as its maker calls it; empty while loading.
    """

    epoch: str
    state: EngineState
    max_model_len: int
    step_seconds: float
    stats: dict[str, float]
    device: str = ""


def beat_endpoint(endpoint: str) -> str:
    """Where the engine listening at `endpoint` publishes its beats."""
    return f"{endpoint}.beats"
