"""Owns what the loop of an engine process needs of the engine and of the adapters below it, so that both can be
scripted in tests."""

from collections.abc import Iterable
from typing import Protocol

from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.engine.adapter_report import AdapterReport
from loraplex.engine.adapter_report import Purged as Unloaded
from loraplex.engine.request import Output, Request
from loraplex.platform.engines.messages import AdapterFile


class EnginePort(Protocol):
    """What the loop needs of `engine.engine.Engine`."""

    def add(self, request: Request) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def step(self) -> list[Output]: ...

    def has_work(self) -> bool: ...

    def adapters(self) -> Iterable[AdapterReport]: ...

    def pin(self, adapter: int, pinned: bool) -> None: ...

    def purged(self) -> list[Unloaded]: ...


class AdapterDirectory(Protocol):
    """Identities to the integer handles the engine knows, and the tiers below the device; see `engines.adapters`."""

    def handle(self, adapter: AdapterFile) -> int:
        """The handle of an adapter, known from now on. Loads nothing."""
        ...

    def known(self, identity: str) -> int | None:
        """The handle of an adapter that has one."""
        ...

    def identity(self, handle: int) -> str | None:
        """Whom a handle stands for, or stood for before it was purged."""
        ...

    def purge(self, identity: str) -> None:
        """Begin to remove an adapter from every tier: `Engine.purged` tells of the device if it has a handle,
        `forgotten` of the tiers below."""
        ...

    def forgotten(self) -> list[Forgotten]:
        """Purged adapters of which, since the last call, the last byte has gone from host and disk."""
        ...

    def pin(self, adapters: list[AdapterFile]) -> None:
        """Keep these on the host, and no longer those of the call before."""
        ...

    def figures(self) -> Iterable[AdapterFigures]:
        """Adapters on host and disk."""
        ...
