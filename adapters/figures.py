"""Owns what is told about adapters on the host: figures of each, changes since the last time, proofs of removal."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class AdapterFigures:
    """One adapter below the device, since this process began or last forgot it.

    Attributes:
        host_bytes, disk_bytes: what it takes in each tier, 0 where it is not.
        loads, load_seconds: times it was brought to the host, and what that took.
        hits: requests answered from the host.
    """

    identity: str
    host_bytes: int = 0
    disk_bytes: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    hits: int = 0

    @property
    def tier(self) -> str:
        """The fastest place it is in: host, disk or database."""
        if self.host_bytes:
            return "host"
        return "disk" if self.disk_bytes else "database"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An adapter is in no tier below the device any more. The numbers are what was removed."""

    identity: str
    host_entries: int
    disk_files: int


class Book:
    """Figures of every adapter this process has heard of. Not thread-safe."""

    def __init__(self) -> None:
        self._figures: dict[str, AdapterFigures] = {}
        self._told: dict[str, AdapterFigures] = {}

    def loaded(self, identity: str, seconds: float) -> None:
        """It was brought to the host."""
        old = self._of(identity)
        self._figures[identity] = replace(
            old, loads=old.loads + 1, load_seconds=old.load_seconds + seconds
        )

    def hit(self, identity: str) -> None:
        """A request was answered from the host."""
        old = self._of(identity)
        self._figures[identity] = replace(old, hits=old.hits + 1)

    def forget(self, identity: str) -> None:
        """It is gone."""
        self._figures.pop(identity, None)

    def changes(
        self, sizes: Callable[[str], tuple[int, int]]
    ) -> tuple[list[AdapterFigures], list[str]]:
        """Figures that are new or other than the last time, and adapters that are gone since. `sizes` gives the bytes
        of an adapter on host and disk."""
        changed = []
        for identity, old in self._figures.items():
            host_bytes, disk_bytes = sizes(identity)
            if (host_bytes, disk_bytes) != (old.host_bytes, old.disk_bytes):
                old = replace(old, host_bytes=host_bytes, disk_bytes=disk_bytes)
                self._figures[identity] = old
            if self._told.get(identity) != old:
                changed.append(old)
                self._told[identity] = old
        gone = [identity for identity in self._told if identity not in self._figures]
        for identity in gone:
            del self._told[identity]
        return changed, gone

    def _of(self, identity: str) -> AdapterFigures:
        return self._figures.get(identity) or AdapterFigures(identity)
