"""Owns the port through which the rest of the platform reaches the engines;
`engines.pool.EnginePool` implements it."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from loraplex.platform.engines.messages import (
    AdapterFile,
    Description,
    FinalsOf,
    Purged,
)
from loraplex.platform.engines.status import EngineStatus


@runtime_checkable  # Litestar checks what it injects
class EngineDirectory(Protocol):
    """The engines of this service, by the name of their base model."""

    def ready(self) -> bool:
        """Whether every engine takes requests."""
        ...

    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Counters and gauges of each running engine."""
        ...

    def stats(self) -> Mapping[str, EngineStatus]:
        """What each engine last said about itself."""
        ...

    async def describe(self) -> Mapping[str, Description]:
        """Every adapter each engine knows of; an engine that is not running is not there."""
        ...

    def pin(self, base: str, adapters: list[AdapterFile]) -> None:
        """Keep these adapters, and no others, on the device of the engines of a base model."""
        ...

    @property
    def service(self) -> str:
        """The same for all API workers that talk to the same engines."""
        ...

    async def finals(self, base: str, accounts: Sequence[bytes]) -> FinalsOf | None:
        """What the engine of a base model knows of these ledger rows; None if it does not answer at the moment. Of a
        base model that is not served nothing is known."""
        ...

    def acknowledge(self, base: str, accounts: Sequence[bytes]) -> None:
        """What these ledger rows took is written down: the engine of a base model may forget it."""
        ...

    async def purge(self, base: str, identity: str) -> Purged | None:
        """Remove an adapter from every tier of the engines of a base model; None if no engine answered in time, which
        is then told when it is back."""
        ...
