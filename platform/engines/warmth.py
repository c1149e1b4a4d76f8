"""Owns the engine's part in the warm set: what the loader has brought back goes to the device, and what is on the
device is told to the loader."""

import time
from collections.abc import Iterable
from typing import Protocol

from loraplex.engine.adapter_report import AdapterReport, Tier
from loraplex.platform.engines.adapters import AdapterHandles
from loraplex.platform.engines.loader_client import LoaderClient

# The loader writes the warm set down as often.
TELL_SECONDS = 30.0


class WarmEngine(Protocol):
    """What is needed of `engine.engine.Engine`."""

    def adapters(self) -> Iterable[AdapterReport]: ...

    def warm(self, adapters: Iterable[int]) -> None: ...


class Warmth:
    """Ticked by the loop."""

    def __init__(self, engine: WarmEngine, handles: AdapterHandles, loader: LoaderClient) -> None:
        self._engine = engine
        self._handles = handles
        self._loader = loader
        self._next_tell = time.monotonic() + TELL_SECONDS

    def tick(self) -> None:
        """Once a second or so."""
        restored = self._loader.restored()
        if restored:
            self._engine.warm([self._handles.handle(ref) for ref in restored])
        if time.monotonic() >= self._next_tell:
            self.tell()

    def tell(self) -> None:
        """Say what is on the device: what was used most, by bytes to bring, is worth most."""
        self._next_tell = time.monotonic() + TELL_SECONDS
        resident = [r for r in self._engine.adapters() if r.tier is Tier.DEVICE]
        resident.sort(key=lambda report: (report.pinned, report.users, report.hits), reverse=True)
        names = [self._handles.identity(report.handle) for report in resident]
        self._loader.tell_resident([name for name in names if name is not None])
