"""Owns the live state of engines as operators and tenants may see it."""

import heapq
from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from loraplex.platform.auth.principal import Principal
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import AdapterState
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.residency.names import AdapterName, Names, tenant_of
from loraplex.platform.residency.schemas import (
    AdapterLive,
    EngineBrief,
    EngineLive,
    Others,
)

# What an event lists by name: thousands would be megabytes a second for each who watches.
BUSIEST = 50
LARGEST = 150


class Overview:
    """What engines say about themselves, with the names people know."""

    def __init__(self, engines: EngineDirectory, names: Names) -> None:
        self._engines = engines
        self._names = names

    async def engines(self, principal: Principal) -> dict[str, EngineLive]:
        """Every engine by base model: all of it for an operator, for a tenant what is its own, and of that what a
        confined key may see."""
        viewer = principal.viewer
        described = await self._engines.describe()
        states = {base: _seen(described[base].adapters, viewer) for base in described}
        names = await self._names.of(_mentioned(states.values(), viewer))
        found = {}
        for base, status in self._engines.stats().items():
            own = _allowed(states.get(base, []), names, principal.adapters)
            live = [AdapterLive.of(state, viewer, names) for state in own]
            found[base] = _engine(status, own, live, viewer)
        return found

    async def brief(
        self, viewer: UUID | None, adapters: frozenset[str] | None
    ) -> dict[str, EngineBrief]:
        """The same for events: some adapters by name, the others summed up. `adapters` are the names that a key of a
        tenant is confined to."""
        described = await self._engines.describe()
        states = {base: _seen(described[base].adapters, viewer) for base in described}
        if adapters is not None:
            names = await self._names.of(_mentioned(states.values(), viewer))
            states = {base: _allowed(some, names, adapters) for base, some in states.items()}
        listed = {base: _listed(some) for base, some in states.items()}
        names = await self._names.of(_mentioned(listed.values(), viewer))
        found = {}
        for base, status in self._engines.stats().items():
            own, shown = states.get(base, []), listed.get(base, [])
            live = [AdapterLive.of(state, viewer, names) for state in shown]
            engine = _engine(status, own, live, viewer)
            if viewer is not None:
                engine.counters |= _traffic(own)
            found[base] = EngineBrief(
                engine.ready,
                engine.epoch,
                engine.max_model_len,
                engine.step_seconds,
                engine.counters,
                live,
                _others(own, shown),
                dict(Counter(state.tier for state in own)),
                status.device if viewer is None else None,
            )
        return found


def _seen(states: Iterable[AdapterState], viewer: UUID | None) -> list[AdapterState]:
    seen = [s for s in states if viewer is None or tenant_of(s.identity) == str(viewer)]
    return sorted(seen, key=_busy, reverse=True)


def _busy(state: AdapterState) -> tuple[int, int, str]:
    return (
        state.running + state.waiting,
        state.prompt_tokens + state.output_tokens,
        state.identity,
    )


def _allowed(
    states: list[AdapterState], names: dict[str, AdapterName], adapters: frozenset[str] | None
) -> list[AdapterState]:
    if adapters is None:
        return states
    return [s for s in states if s.identity in names and names[s.identity].adapter in adapters]


def _listed(states: list[AdapterState]) -> list[AdapterState]:
    """The busiest, which stand first, and the largest on the device, in the same order."""
    on_device = [state for state in states if state.device_bytes]
    largest = heapq.nlargest(LARGEST, on_device, key=lambda state: state.device_bytes)
    chosen = {state.identity for state in (*states[:BUSIEST], *largest)}
    return [state for state in states if state.identity in chosen]


def _others(states: list[AdapterState], shown: list[AdapterState]) -> Others:
    listed = {state.identity for state in shown}
    rest = [state for state in states if state.identity not in listed]
    return Others(
        len(rest),
        sum(1 for state in rest if state.device_bytes),
        sum(state.device_bytes for state in rest),
    )


def _traffic(states: Iterable[AdapterState]) -> dict[str, float]:
    """What a tenant's adapters did since the engine's start, by the names of the engine's own counters."""
    sums = Counter[str]()
    for state in states:
        sums["prompt_tokens"] += state.prompt_tokens
        sums["output_tokens"] += state.output_tokens
        sums["adapter_loads"] += state.loads
        sums["adapter_evictions"] += state.evictions
    return dict(sums)


def _mentioned(states: Iterable[list[AdapterState]], viewer: UUID | None) -> set[str]:
    """Identities whose names are needed."""
    own, evictors = set(), set()
    for some in states:
        for state in some:
            own.add(state.identity)
            if state.last_evicted_by is not None:
                evictors.add(state.last_evicted_by)
    return own | {e for e in evictors if viewer is None or tenant_of(e) == str(viewer)}


def _engine(
    status: EngineStatus,
    states: Iterable[AdapterState],
    adapters: list[AdapterLive],
    viewer: UUID | None,
) -> EngineLive:
    """`states` are what a tenant's sums are over, `adapters` what is listed."""
    if viewer is None:
        return EngineLive(
            status.ready,
            status.epoch,
            status.max_model_len,
            status.step_seconds,
            status.counters,
            adapters,
        )
    # How long a step takes, how full the engine is and when it was started tell of other tenants.
    sums: Counter[str] = Counter(running=0, waiting=0)
    tiers: Counter[str] = Counter()
    for state in states:
        sums["running"] += state.running
        sums["waiting"] += state.waiting
        tiers[f"adapters_{state.tier}"] += 1
    counters: dict[str, float] = {**sums, **dict(sorted(tiers.items()))}
    return EngineLive(status.ready, None, status.max_model_len, 0.0, counters, adapters)
