"""Owns what comes from the source of adapters: loads under way, host copies that wait for the device, failures."""

from collections.abc import Container

from loraplex.engine.adapter_history import AdapterHistory
from loraplex.engine.lora import AdapterSource, LoRAWeights

# Adapters on their way to the device at a time, loading or on the host and waiting for room: each holds host memory.
_MAX_STAGED = 16


class AdapterLoads:
    """Loads by handle.

    Attributes:
        staged: weights on the host, in the order of their arrival; `take` them to the device.
        failures: how many loads have failed.
    """

    def __init__(self, source: AdapterSource, history: AdapterHistory) -> None:
        self.staged: dict[int, LoRAWeights] = {}
        self.failures = 0
        self._source = source
        self._history = history
        self._loading: set[int] = set()
        self._discarded: set[int] = set()  # of those, unloaded meanwhile: what comes is not wanted
        self._failed: dict[int, str] = {}

    @property
    def loading(self) -> bool:
        return bool(self._loading)

    @property
    def has_room(self) -> bool:
        return len(self.staged) + len(self._loading) < _MAX_STAGED

    def is_loading(self, handle: int) -> bool:
        return handle in self._loading and handle not in self._discarded

    def request(self, handle: int) -> None:
        """Start a load unless the adapter is here, on its way, or too many others are."""
        if handle in self.staged or handle in self._loading or not self.has_room:
            return
        # A new request deserves a new attempt.
        self._failed.pop(handle, None)
        self._loading.add(handle)
        self._source.request(handle)

    def collect(self) -> None:
        """Take over what the source has brought since the last step."""
        for handle, weights, error, seconds in self._source.collect():
            self._loading.discard(handle)
            if handle in self._discarded:
                self._discarded.remove(handle)
                if weights is not None:
                    self._source.release(handle)
            elif weights is not None:
                self.staged[handle] = weights
                record = self._history[handle]
                record.load_seconds += seconds
                record.below_seconds = seconds
            else:
                self.failures += 1
                self._failed[handle] = error or "The adapter could not be loaded."

    def take(self, handle: int) -> LoRAWeights:
        """Staged weights for a copy to the device; `release` when it has ended."""
        return self.staged.pop(handle)

    def release(self, handle: int) -> None:
        """Weights that were taken are of no more use."""
        self._source.release(handle)

    def fail(self, handle: int, error: str) -> None:
        """Refuse staged weights."""
        self._drop(handle)
        self._failed[handle] = error

    def failure(self, handle: int) -> str | None:
        return self._failed.get(handle)

    def keep(self, wanted: Container[int]) -> None:
        """Let go of host copies and failures that nobody asks for any more."""
        for handle in [h for h in self.staged if h not in wanted]:
            self._drop(handle)
        for handle in [h for h in self._failed if h not in wanted]:
            del self._failed[handle]

    def discard(self, handle: int) -> bool:
        """Forget an adapter, and what a load under way will bring; returns whether there was a host copy."""
        self._failed.pop(handle, None)
        if handle in self._loading:
            self._discarded.add(handle)
        staged = handle in self.staged
        if staged:
            self._drop(handle)
        return staged

    def wait(self, timeout: float) -> None:
        """Sleep until something can be collected, at most `timeout` seconds."""
        self._source.wait(timeout)

    def _drop(self, handle: int) -> None:
        del self.staged[handle]
        self._source.release(handle)
