"""Owns the JSON of the live state of engines."""

from uuid import UUID

from msgspec import Struct

from loraplex.platform.engines.messages import AdapterState, Tier
from loraplex.platform.residency.names import AdapterName, evictor


class AdapterLive(Struct):
    """One adapter as an engine knows it now. Numbers count since the engine's start.

    Attributes:
        tier: the fastest place it is in: `device`, `loading` (on its way there), `host`, `disk`, `database`.
        loads, load_seconds: copies to the device, and the time from wanting it there to having it, all together.
        hits: admissions that found it on the device. evictions: times it was pushed out.
        running, waiting: requests now.
    """

    tenant: str
    adapter: str
    version: int | None
    digest: str
    tier: Tier
    device_bytes: int
    host_bytes: int
    disk_bytes: int
    pinned: bool
    loads: int
    load_seconds: float
    hits: int
    evictions: int
    last_evicted_by: str | None
    running: int
    waiting: int
    requests: int
    prompt_tokens: int
    output_tokens: int

    @classmethod
    def of(
        cls, state: AdapterState, viewer: UUID | None, names: dict[str, AdapterName]
    ) -> "AdapterLive":
        tenant, _, digest = state.identity.partition("/")
        name = names.get(state.identity)
        return cls(
            tenant=tenant if name is None else name.tenant,
            adapter="" if name is None else name.adapter,
            version=None if name is None else name.version,
            digest=digest,
            tier=state.tier,
            device_bytes=state.device_bytes,
            host_bytes=state.host_bytes,
            disk_bytes=state.disk_bytes,
            pinned=state.pinned,
            loads=state.loads,
            load_seconds=round(state.load_seconds, 6),
            hits=state.hits,
            evictions=state.evictions,
            last_evicted_by=evictor(state.last_evicted_by, viewer, names),
            running=state.running,
            waiting=state.waiting,
            requests=state.requests,
            prompt_tokens=state.prompt_tokens,
            output_tokens=state.output_tokens,
        )


class EngineLive(Struct):
    """One engine now.

    Attributes:
        epoch: changes with every start of its process; operators only.
        max_model_len: longest prompt plus output, tokens.
        step_seconds: age of the step under way; operators only.
        counters: for operators the engine's numbers by name; for a tenant sums over its own adapters.
        adapters: those the engine knows of, busiest first; an adapter that is not here is in the database only.
    """

    ready: bool
    epoch: str | None
    max_model_len: int
    step_seconds: float
    counters: dict[str, float]
    adapters: list[AdapterLive]


class Others(Struct):
    """Adapters that an event does not list, together."""

    adapters: int
    on_device: int
    device_bytes: int


class EngineBrief(EngineLive):
    """One engine in an event: `adapters` are the busiest and those that hold most device memory, `others` the rest.

    Attributes:
        tiers: how many adapters are where.
        device: what the engine runs on, as its maker calls it; operators only.
    """

    others: Others
    tiers: dict[Tier, int]
    device: str | None
