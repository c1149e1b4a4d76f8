"""Owns the engine's side of the loader process: an `engine.lora.AdapterSource` whose every call takes microseconds, as
all the work is done elsewhere and the weights lie in memory both processes have mapped."""

import logging
import mmap
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np
import torch

from loraplex.adapters.cache import CacheStats
from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.adapters.host_memory import SharedMemory
from loraplex.adapters.reading import AdapterRef
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.platform.engines.loader_child import LoaderChild
from loraplex.platform.engines.loader_messages import (
    Channel,
    Failed,
    Forget,
    FromLoader,
    Gone,
    Load,
    Loaded,
    News,
    Pin,
    Release,
    Resident,
    Restored,
    Vacate,
)
from loraplex.platform.engines.process import LoaderLaunch

logger = logging.getLogger(__name__)

# A load whose loader died is sent to the next one, but not for ever: it may be what kills them.
MAX_ATTEMPTS = 2
# A loader says something every second. One that has been silent for so long hangs, and requests would wait for ever.
SILENT_SECONDS = 30.0
# What counts since the start; the rest of `CacheStats` describes the present.
_COUNTERS = ("loads", "failures", "hits", "joins", "load_seconds")


@dataclass(frozen=True, slots=True)
class _Held:
    """Memory the engine reads: its range, and the number of the loader that filled it."""

    start: int
    size: int
    life: int


class LoaderClient:
    """One loader process after the other, seen from the engine's thread, to which all methods belong.

    Args:
        settings: `Settings.to_json`.
        directory: of the base model.
        dtype: of the model.
        capacity: bytes of host memory for adapters.

    Attributes:
        memory: what the loader fills.
    """

    def __init__(self, settings: str, directory: str, dtype: torch.dtype, capacity: int) -> None:
        self._dtype = dtype
        # What lies behind it is given back to the system by pages.
        capacity -= capacity % mmap.PAGESIZE
        self._fd = SharedMemory.create(capacity)
        self.memory = SharedMemory(self._fd, capacity)
        name = str(dtype).removeprefix("torch.")
        self._launch = LoaderLaunch(settings, directory, name, self._fd, capacity)
        self._life = 0
        self._refs: dict[int, AdapterRef] = {}
        self._told: set[int] = set()  # handles the present loader knows
        self._pending: dict[int, int] = {}  # requested handles, and how often they were sent
        self._results: list[LoadResult] = []
        self._held: dict[int, deque[_Held]] = {}  # by handle
        self._purging: dict[str, Forget] = {}
        self._forgotten: list[Forgotten] = []
        self._restored: list[AdapterRef] = []
        self._pinned: list[AdapterRef] = []
        self._resident: list[str] = []
        self._figures: dict[str, AdapterFigures] = {}
        self._stats = self._before = CacheStats()
        self._heard = False  # from any loader
        self._heard_at: float | None = (
            None  # from the present one, which is still starting while there is none
        )
        self._child = LoaderChild()
        self._channel = self._connect()

    @property
    def pid(self) -> int | None:
        """Of the loader process that runs now."""
        return self._child.pid

    def wait_until_up(self, timeout: float) -> bool:
        """Wait for the first loader to have started, so that no request does; False if it takes too long."""
        end = time.monotonic() + timeout
        self._pump()
        while not self._heard and (left := end - time.monotonic()) > 0:
            self._channel.wait(min(left, 0.1))
            self._pump()
        return self._heard

    def register(self, handle: int, ref: AdapterRef) -> None:
        """Say what stands behind a handle; must come before `request`."""
        self._refs[handle] = ref

    def request(self, handle: int) -> None:
        """See `AdapterSource.request`."""
        if handle in self._pending:
            return
        if handle not in self._refs:
            error = "the adapter is not known here, or was removed."
            self._results.append(LoadResult(handle, None, error))
            return
        self._pending[handle] = 1
        self._send_load(handle)

    def collect(self) -> list[LoadResult]:
        """See `AdapterSource.collect`."""
        self._pump()
        results, self._results = self._results, []
        return results

    def release(self, handle: int) -> None:
        """See `AdapterSource.release`."""
        held = self._held.get(handle)
        if not held:
            return
        oldest = held.popleft()
        if not held:
            del self._held[handle]
        mine = oldest.life == self._life
        self._channel.send(Release(handle) if mine else Vacate(oldest.start))

    def wait(self, timeout: float) -> None:
        """See `AdapterSource.wait`."""
        if not self._results:
            self._channel.wait(timeout)

    def forget(self, handle: int | None, identity: str) -> None:
        """Remove an adapter from host and disk; a pending request fails. `forgotten` tells when nothing is left.
        Without a handle it is one this engine has not used."""
        if handle is not None:
            self._refs.pop(handle, None)
            ready = [r for r in self._results if r.handle == handle and r.weights is not None]
            self._results = [r for r in self._results if r not in ready]
            for _ in ready:
                self.release(handle)
            if ready or handle in self._pending:
                self._fail(handle, "the adapter was removed while it was being loaded.")
        order = Forget(handle if handle in self._told else None, identity)
        self._told.discard(-1 if handle is None else handle)
        self._purging[identity] = order
        self._channel.send(order)

    def forgotten(self) -> list[Forgotten]:
        """Adapters of which, since the last call, the last byte has gone from host and disk."""
        self._pump()
        done, self._forgotten = self._forgotten, []
        return done

    def pin(self, refs: Sequence[AdapterRef]) -> None:
        """Keep these on the host, and no longer those of the call before."""
        if list(refs) == self._pinned:
            return
        self._pinned = list(refs)
        self._channel.send(Pin(self._pinned))

    def tell_resident(self, identities: Sequence[str]) -> None:
        """Say what is on the device, most valuable first: the beginning of the warm set."""
        self._resident = list(identities)
        self._channel.send(Resident(self._resident))

    def restored(self) -> list[AdapterRef]:
        """Adapters of the warm set that came to the host since the last call, most valuable first."""
        self._pump()
        refs, self._restored = self._restored, []
        return refs

    def stats(self) -> CacheStats:
        """Counters since this engine's start; at most about a second old."""
        self._pump()
        return _added(self._before, self._stats)

    def figures(self) -> list[AdapterFigures]:
        """Every adapter the loader has heard of."""
        return list(self._figures.values())

    def close(self) -> None:
        """End the loader."""
        self._channel.close()
        self._child.close()
        os.close(self._fd)

    def _connect(self) -> Channel:
        """A channel to the next loader. Orders may be sent at once: they wait in it until the process is there."""
        mine, its = socket.socketpair()
        held = [(each.start, each.size) for of in self._held.values() for each in of]
        launch = msgspec.structs.replace(self._launch, held=held, successor=self._life > 0)
        self._life += 1
        self._child.start(launch, its)
        return Channel(mine)

    def _pump(self) -> None:
        """Take what has arrived, and see whether the loader still lives."""
        messages = self._channel.receive()
        for message in messages:
            self._take(message)
        if messages:
            self._heard_at = time.monotonic()
        elif self._heard_at is not None and time.monotonic() > self._heard_at + SILENT_SECONDS:
            logger.warning("the adapter loader hangs and is started again")
            self._heard_at = None
            self._child.kill()  # its end of the channel closes with it
        if self._channel.closed:
            self._replace()

    def _replace(self) -> None:
        """The loader has died: what it was asked goes to the next one. What it had brought stays where it is as long as
        the engine reads it."""
        self._channel.close()
        self._heard_at = None
        self._channel = self._connect()
        self._told.clear()
        self._figures.clear()
        self._before = _added(self._before, replace(self._stats, loading=0))
        self._before = replace(
            self._before, host_entries=0, host_bytes=0, disk_entries=0, disk_bytes=0
        )
        self._stats = CacheStats()
        # Before loads: what was pushed again meanwhile has a handle there, for which it would be kept.
        for identity in self._purging:
            self._channel.send(Forget(None, identity))
        for handle, attempts in list(self._pending.items()):
            if attempts < MAX_ATTEMPTS:
                self._pending[handle] = attempts + 1
                self._send_load(handle)
            else:
                self._fail(handle, "the adapter loader of this server stopped twice; try again.")
        if self._pinned:
            self._channel.send(Pin(self._pinned))
        self._channel.send(Resident(self._resident))

    def _send_load(self, handle: int) -> None:
        new = handle not in self._told
        self._told.add(handle)
        self._channel.send(Load(handle, self._refs[handle] if new else None))

    def _take(self, message: FromLoader) -> None:
        match message:
            case Loaded():
                self._take_loaded(message)
            case Failed(handle, error):
                if handle in self._pending:
                    self._fail(handle, error)
            case Gone(identity, host_entries, disk_files):
                self._figures.pop(identity, None)
                if self._purging.pop(identity, None) is not None:
                    self._forgotten.append(Forgotten(identity, host_entries, disk_files))
            case News(stats, changed, gone):
                self._heard = True
                self._stats = stats
                self._figures.update((each.identity, each) for each in changed)
                for identity in gone:
                    self._figures.pop(identity, None)
            case Restored(ref):
                self._restored.append(ref)

    def _take_loaded(self, message: Loaded) -> None:
        handle = message.handle
        held = _Held(message.start, message.size, self._life)
        self._held.setdefault(handle, deque()).append(held)
        if self._pending.pop(handle, None) is None:  # removed meanwhile
            self.release(handle)
            return
        data = self.memory.at(message.start, message.size).data
        weights = LoRAWeights(
            data.view(self._dtype),
            *(
                np.frombuffer(each, dtype=np.int64)
                for each in (message.modules, message.ranks, message.a_rows, message.b_rows)
            ),
        )
        self._results.append(LoadResult(handle, weights, None, message.seconds))

    def _fail(self, handle: int, error: str) -> None:
        self._pending.pop(handle, None)
        self._results.append(LoadResult(handle, None, error))


def _added(before: CacheStats, now: CacheStats) -> CacheStats:
    sums = {name: getattr(before, name) + getattr(now, name) for name in _COUNTERS}
    assert sums.keys() <= {field.name for field in fields(CacheStats)}
    return replace(now, **sums)
