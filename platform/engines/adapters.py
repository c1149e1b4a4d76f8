"""Owns which integer handle stands for which adapter in this engine process."""

import itertools
from collections import OrderedDict
from collections.abc import Callable

from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.adapters.reading import AdapterRef
from loraplex.platform.engines.loader_client import LoaderClient
from loraplex.platform.engines.messages import AdapterFile

# Purged adapters whose name is remembered: the timings of a request may speak of one that evicted it before.
MAX_FORMER = 10_000


class AdapterHandles:
    """Handles are given out on first use and never used again, so a late result cannot meet a new adapter."""

    def __init__(self, loader: LoaderClient, unload: Callable[[int], None]) -> None:
        self._loader = loader
        self._unload = unload
        self._handles: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._former: OrderedDict[int, str] = OrderedDict()
        self._numbers = itertools.count()

    def handle(self, adapter: AdapterFile | AdapterRef) -> int:
        """The handle of an adapter, known to the loader from now on. Loads nothing."""
        known = self._handles.get(adapter.identity)
        if known is not None:
            return known
        handle = next(self._numbers)
        self._loader.register(handle, _ref(adapter))
        self._handles[adapter.identity] = handle
        self._names[handle] = adapter.identity
        return handle

    def known(self, identity: str) -> int | None:
        """The handle of an adapter that has one."""
        return self._handles.get(identity)

    def identity(self, handle: int) -> str | None:
        """Whom a handle stands for, or stood for before it was purged."""
        return self._names.get(handle) or self._former.get(handle)

    def purge(self, identity: str) -> None:
        """Begin to remove an adapter from the device, the host and the disk; `forgotten` tells when the last two are
        done."""
        handle = self._handles.pop(identity, None)
        if handle is not None:
            del self._names[handle]
            self._former[handle] = identity
            while len(self._former) > MAX_FORMER:
                self._former.popitem(last=False)
            self._unload(handle)
        self._loader.forget(handle, identity)

    def forgotten(self) -> list[Forgotten]:
        """Purged adapters of which, since the last call, the last byte has gone from host and disk."""
        return self._loader.forgotten()

    def pin(self, adapters: list[AdapterFile]) -> None:
        """Keep these on the host, and no longer those of the call before."""
        self._loader.pin([_ref(adapter) for adapter in adapters])

    def figures(self) -> list[AdapterFigures]:
        """Adapters on host and disk."""
        return self._loader.figures()


def _ref(adapter: AdapterFile | AdapterRef) -> AdapterRef:
    return AdapterRef(adapter.identity, adapter.weights_sha256, adapter.size, adapter.config)
