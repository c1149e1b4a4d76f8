"""Owns the adapters of an engine process over all their tiers: keeping them, removing them, telling where they are."""

import logging
from collections.abc import Iterator

from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.engine import adapter_report
from loraplex.engine.adapter_report import AdapterReport, PinRefusedError
from loraplex.engine.adapter_report import Purged as Unloaded
from loraplex.engine.request import EVICTED_BY_KV as BY_KV
from loraplex.platform.engines.messages import (
    EVICTED_BY_KV,
    AdapterFile,
    AdapterState,
    Purged,
    Tier,
)
from loraplex.platform.engines.ports import AdapterDirectory, EnginePort

logger = logging.getLogger(__name__)

_ON_THE_WAY = (adapter_report.Tier.LOADING, adapter_report.Tier.COPYING)


class _Removal:
    """A purge under way: what each side has told, None while it has not."""

    def __init__(self, unloaded: Unloaded | None) -> None:
        self.unloaded = unloaded
        self.forgotten: Forgotten | None = None


class Residents:
    """Joins what the engine and the tiers below it know."""

    def __init__(self, engine: EnginePort, adapters: AdapterDirectory) -> None:
        self._engine = engine
        self._adapters = adapters
        self._pinned: dict[str, int] = {}
        self._refused: set[str] = set()
        self._removals: dict[str, _Removal] = {}
        self._gone: set[str] = (
            set()
        )  # purged, but the figures of the tiers below may be a second old

    def name(self, handle: int | None) -> str | None:
        """Identity behind a handle of the engine, which may be `engine.request.EVICTED_BY_KV`."""
        if handle is None:
            return None
        return EVICTED_BY_KV if handle == BY_KV else self._adapters.identity(handle)

    def pin(self, files: list[AdapterFile]) -> None:
        """Keep these on the device, and no longer those of the call before. Those that find no room are left out."""
        wanted = {file.identity: file for file in files}
        for identity in [i for i in self._pinned if i not in wanted]:
            self._engine.pin(self._pinned.pop(identity), pinned=False)
        for identity, file in wanted.items():
            if identity in self._removals:
                continue
            handle = self._adapters.handle(file)
            try:
                # Once more also where it was told before: the engine forgets a pin whose adapter it could not load.
                self._engine.pin(handle, pinned=True)
            except PinRefusedError as error:
                if identity not in self._refused:
                    logger.warning("adapter %s is not pinned: %s", identity, error)
                self._refused.add(identity)
            else:
                self._pinned[identity] = handle
                self._refused.discard(identity)
        self._refused &= wanted.keys()
        self._adapters.pin([wanted[identity] for identity in wanted if identity in self._pinned])

    def purge(self, identity: str) -> None:
        """Begin to remove an adapter from every tier."""
        self._pinned.pop(identity, None)
        handle = self._adapters.known(identity)
        # One without a handle never was on the device.
        nothing = Unloaded(-1, 0, 0, host=False) if handle is None else None
        self._removals[identity] = _Removal(nothing)
        self._adapters.purge(identity)

    def purged(self) -> list[Purged]:
        """Purges that ended since the last call, in no particular order."""
        if not self._removals:
            return []
        for unloaded in self._engine.purged():
            identity = self._adapters.identity(unloaded.handle)
            if identity is not None and (removal := self._removals.get(identity)) is not None:
                removal.unloaded = unloaded
        for forgotten in self._adapters.forgotten():
            if (removal := self._removals.get(forgotten.identity)) is not None:
                removal.forgotten = forgotten
        ended = []
        for identity, removal in list(self._removals.items()):
            device, below = removal.unloaded, removal.forgotten
            if device is None or below is None:
                continue
            del self._removals[identity]
            self._gone.add(identity)
            hosts, files = below.host_entries, below.disk_files
            ended.append(Purged(0, identity, device.pages, device.blocks, hosts, files))
        return ended

    def states(self) -> Iterator[AdapterState]:
        """Every adapter that is in a tier here, or was not long ago, without its traffic; what comes late was looked up
        when the first was."""
        below = {figures.identity: figures for figures in self._adapters.figures()}
        self._gone &= below.keys()
        for identity in [i for i in self._gone if self._adapters.known(i) is None]:
            del below[identity]
        for report in self._engine.adapters():
            name = self._adapters.identity(report.handle)
            if name is not None and self._adapters.known(name) == report.handle:
                yield self._state(name, report, below.pop(name, None))
        for identity, figures in below.items():
            yield self._state(identity, None, figures)

    def _state(
        self, identity: str, report: AdapterReport | None, below: AdapterFigures | None
    ) -> AdapterState:
        figures = below or AdapterFigures(identity)
        if report is None:
            return AdapterState(
                identity,
                _tier(None, figures),
                host_bytes=figures.host_bytes,
                disk_bytes=figures.disk_bytes,
            )
        return AdapterState(
            identity,
            _tier(report, figures),
            device_bytes=report.bytes if report.tier is adapter_report.Tier.DEVICE else 0,
            host_bytes=figures.host_bytes,
            disk_bytes=figures.disk_bytes,
            pinned=report.pinned,
            loads=report.loads,
            load_seconds=report.load_seconds,
            hits=report.hits,
            evictions=report.evictions,
            last_evicted_by=self.name(report.last_evicted_by),
            running=report.users,
        )


def _tier(report: AdapterReport | None, figures: AdapterFigures) -> Tier:
    if report is not None and report.tier is adapter_report.Tier.DEVICE:
        return Tier.DEVICE
    if report is not None and report.tier in _ON_THE_WAY:
        return Tier.LOADING
    if figures.host_bytes or (report is not None and report.tier is adapter_report.Tier.HOST):
        return Tier.HOST
    return Tier.DISK if figures.disk_bytes else Tier.DATABASE
