"""Owns the port through which the rest of the platform reaches the engines;
`engines.pool.EnginePool` implements it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable  # Litestar checks what it injects
class EngineDirectory(Protocol):
    """The engines of this service, by the name of their base model."""

    def ready(self) -> bool:
        """Whether every engine takes requests."""
        ...

    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Counters and gauges of each running engine."""
        ...

    async def purge(self, base: str, identity: str) -> None:
        """Remove an adapter from every tier of the engines of a base model."""
        ...
