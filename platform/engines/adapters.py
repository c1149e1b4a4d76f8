"""Owns which integer handle stands for which adapter in this engine process."""

import itertools
from collections.abc import Callable

from loraplex.adapters.cache import AdapterCache, AdapterRef
from loraplex.platform.engines.messages import AdapterFile


class AdapterHandles:
    """Handles are given out on first use and never used again, so a late result cannot meet a new adapter."""

    def __init__(self, cache: AdapterCache, unload: Callable[[int], None]) -> None:
        self._cache = cache
        self._unload = unload
        self._handles: dict[str, int] = {}
        self._numbers = itertools.count()

    def handle(self, adapter: AdapterFile) -> int:
        """The handle of an adapter, known to the cache from now on. Loads nothing."""
        known = self._handles.get(adapter.identity)
        if known is not None:
            return known
        handle = next(self._numbers)
        self._cache.register(
            handle,
            AdapterRef(
                weights_sha256=adapter.weights_sha256,
                size=adapter.size,
                config=adapter.config,
                identity=adapter.identity,
            ),
        )
        self._handles[adapter.identity] = handle
        return handle

    def purge(self, identity: str) -> None:
        """Remove an adapter from the device, the host and the disk; of one never used by this process, the file."""
        handle = self._handles.pop(identity, None)
        if handle is None:
            self._cache.forget_file(identity)
        else:
            self._unload(handle)
            self._cache.forget(handle)
