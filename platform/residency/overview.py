"""Owns the live state of engines as operators and tenants may see it."""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from loraplex.platform.auth.principal import Principal
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import AdapterState
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.residency.names import Names, tenant_of
from loraplex.platform.residency.schemas import AdapterLive, EngineLive


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
            own = states.get(base, [])
            live = [AdapterLive.of(state, viewer, names) for state in own]
            adapters = [adapter for adapter in live if principal.may_see(adapter.adapter)]
            found[base] = _engine(status, adapters, viewer)
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


def _mentioned(states: Iterable[list[AdapterState]], viewer: UUID | None) -> set[str]:
    """Identities whose names are needed."""
    own = {state.identity for some in states for state in some}
    evictors = {s.last_evicted_by for some in states for s in some if s.last_evicted_by is not None}
    return own | {e for e in evictors if viewer is None or tenant_of(e) == str(viewer)}


def _engine(status: EngineStatus, adapters: list[AdapterLive], viewer: UUID | None) -> EngineLive:
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
    tiers = Counter(adapter.tier for adapter in adapters)
    sums: dict[str, float] = {
        "running": sum(adapter.running for adapter in adapters),
        "waiting": sum(adapter.waiting for adapter in adapters),
        **{f"adapters_{tier}": count for tier, count in sorted(tiers.items())},
    }
    return EngineLive(status.ready, None, status.max_model_len, 0.0, sums, adapters)
