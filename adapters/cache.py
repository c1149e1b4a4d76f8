"""Owns bringing adapters to the host for the engine: the host tier (adapters in kernel layout) above the disk tier,
filled by loader threads off the step loop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from loraplex.adapters.blobs import WeightFile, WeightFiles
from loraplex.adapters.errors import BlobUnavailableError
from loraplex.adapters.figures import AdapterFigures, Book, Forgotten
from loraplex.adapters.host_memory import HostMemory, PrivateMemory
from loraplex.adapters.host_tier import HostEntry, HostTier
from loraplex.adapters.reading import AdapterReader, AdapterRef, Brought, disk_entry
from loraplex.adapters.worth import Worth
from loraplex.engine.lora import LoadResult
from loraplex.engine.model_config import Module

T = TypeVar("T")

_REMOVED = "the adapter was removed while it was being loaded."
_DEFAULT_HOST_BYTES = 4 * 1024**3
# Files read but not safely on the disk yet; each may have pieces in memory. One more is not kept.
_MAX_UNKEPT = 16
# Proofs of removal kept for somebody to collect; not everybody does.
_MAX_FORGOTTEN = 10_000


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, and what is held now.

    Attributes:
        loads, failures: ended loads, by outcome; load_seconds: time of the successful ones.
        hits: requests answered from the host; joins: requests that waited for a load already under way.
        loading: loads under way.
    """

    loads: int = 0
    failures: int = 0
    hits: int = 0
    joins: int = 0
    loading: int = 0
    load_seconds: float = 0.0
    host_entries: int = 0
    host_bytes: int = 0
    disk_entries: int = 0
    disk_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Load:
    """One adapter on its way to the host: who waits for it, and whether it was removed meanwhile."""

    ref: AdapterRef
    handles: set[int] = field(default_factory=set)
    removed: bool = False


class AdapterCache:
    """An `engine.lora.AdapterSource`. Safe to call from any thread.

    Args:
        files: the tier below; it and the store behind it are called from loader threads.
        modules, dtype: of the base model.
        host_bytes: adapters kept on the host, those worth least out first; what finds no room beside what is in use
            comes on top.
        threads: loads at a time.
        pin: page-lock the buffers, for a GPU to copy from.
        memory: where adapters lie, in place of `host_bytes` and `pin`.
    """

    def __init__(
        self,
        files: WeightFiles,
        modules: tuple[Module, ...],
        dtype: torch.dtype,
        *,
        host_bytes: int = _DEFAULT_HOST_BYTES,
        threads: int = 2,
        pin: bool = False,
        memory: HostMemory | None = None,
    ) -> None:
        self._files = files
        self._worth = Worth()
        self._host = HostTier(memory or PrivateMemory(host_bytes, pin=pin), self._worth)
        self._reader = AdapterReader(files, modules, dtype, self._reserve, self._give_up)
        self._changed = threading.Condition()
        self._refs: dict[int, AdapterRef] = {}
        self._handles: dict[str, set[int]] = {}  # by identity
        self._pending: set[int] = set()  # requested, result not collected yet
        self._loading: dict[str, _Load] = {}  # by identity
        self._results: list[LoadResult] = []
        self._held: dict[int, deque[HostEntry]] = {}  # by handle: weights not released yet
        self._foreign: dict[int, HostEntry] = {}  # by address: see `occupy`
        self._keeping: set[str] = set()  # files open that are being brought to the disk
        self._purging: dict[str, int] = {}  # under way, by identity: host entries removed
        self._forgotten: deque[Forgotten] = deque(maxlen=_MAX_FORGOTTEN)
        self._book = Book()
        self._told: CacheStats | None = None  # when changes were looked for the last time
        self._loads = self._failures = self._hits = self._joins = 0
        self._load_seconds = 0.0
        self._loaders = ThreadPoolExecutor(threads, thread_name_prefix="adapter-loader")
        # Syncing and removing files takes time for which neither callers nor loads must wait. A removal in turn waits
        # for whoever has the file open, which may end only when it is kept: so each has a thread of its own.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="adapter-files")
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="adapter-removals")
        self._unkept = threading.Semaphore(_MAX_UNKEPT)

    def register(self, handle: int, ref: AdapterRef) -> None:
        """Say what stands behind a handle; must come before `request`.

        Raises:
            ValueError: the handle stands for another adapter already.
        """
        with self._changed:
            if self._refs.setdefault(handle, ref) != ref:
                raise ValueError(f"handle {handle} is taken by another adapter.")
            self._handles.setdefault(ref.identity, set()).add(handle)

    def forget(self, handle: int) -> None:
        """Remove an adapter from host and disk; a pending request fails. `forgotten` tells when nothing is left."""
        with self._changed:
            ref = self._refs.pop(handle, None)
            if ref is None:
                return
            self._handles[ref.identity].discard(handle)
            if load := self._loading.get(ref.identity):
                load.handles.discard(handle)
            if handle in self._pending:
                for result in self._results:
                    if result.handle == handle and result.weights is not None:
                        self._release(handle)
                self._results = [result for result in self._results if result.handle != handle]
                self._deliver({handle}, None, _REMOVED)
            self._purge(ref.identity)

    def forget_identity(self, identity: str) -> None:
        """As `forget`, for an adapter no handle stands for: one that an earlier process has brought to the disk, or
        that was brought to the host before anybody asked."""
        with self._changed:
            self._purge(identity)

    def forgotten(self) -> list[Forgotten]:
        """Adapters of which, since the last call, the last byte has gone from host and disk."""
        with self._changed:
            done = list(self._forgotten)
            self._forgotten.clear()
            return done

    def request(self, handle: int) -> None:
        """See `AdapterSource.request`."""
        with self._changed:
            if handle in self._pending:
                return
            self._pending.add(handle)
            ref = self._refs.get(handle)
            if ref is None:
                self._deliver({handle}, None, "the adapter is not known here, or was removed.")
            elif entry := self._host.get(ref.identity):
                self._hits += 1
                self._book.hit(ref.identity)
                self._worth.used(ref.identity, entry.size)
                self._deliver({handle}, entry, None)
            elif load := self._loading.get(ref.identity):
                self._joins += 1
                load.handles.add(handle)
            else:
                self._start(_Load(ref, {handle}))

    def bring(self, ref: AdapterRef) -> bool:
        """Bring an adapter to the host on this thread, before anybody asks for it; whether it is there now. Takes what
        it needs even from others, so the caller looks at `room` first."""
        with self._changed:
            if ref.identity in self._loading:
                return False
            if self._host.get(ref.identity) is None:
                load = self._loading[ref.identity] = _Load(ref)
            else:
                return True
        self._load(load)
        with self._changed:
            return self._host.get(ref.identity) is not None

    def room(self) -> int:
        """Bytes of host memory nothing lies in."""
        with self._changed:
            return self._host.capacity - self._host.bytes

    def collect(self) -> list[LoadResult]:
        """See `AdapterSource.collect`."""
        with self._changed:
            results, self._results = self._results, []
            self._pending.difference_update(result.handle for result in results)
            return results

    def release(self, handle: int) -> None:
        """See `AdapterSource.release`."""
        with self._changed:
            self._release(handle)

    def pin(self, identities: Collection[str]) -> None:
        """Keep these on the host whatever else needs its room, from now on, and no longer those of the call before."""
        with self._changed:
            self._host.pin(identities)

    def occupy(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Count memory (start, bytes) as in use: somebody still reads there what an earlier cache has brought. A range
        given twice has two readers."""
        with self._changed:
            for start, size in ranges:
                if entry := self._foreign.get(start):
                    self._host.hold(entry)
                else:
                    self._foreign[start] = self._host.occupy(start, size)

    def vacate(self, start: int) -> None:
        """One reader less of a range that `occupy` was told of."""
        with self._changed:
            entry = self._foreign[start]
            if entry.holds == 1:
                del self._foreign[start]
            self._host.release(entry)

    def wait(self, timeout: float) -> None:
        """See `AdapterSource.wait`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._results), timeout)

    def watch(self, timeout: float) -> None:
        """As `wait`, but also ends when an adapter was forgotten."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._results or self._forgotten), timeout)

    def stats(self) -> CacheStats:
        disk = self._files.usage()
        with self._changed:
            return CacheStats(
                loads=self._loads,
                failures=self._failures,
                hits=self._hits,
                joins=self._joins,
                loading=len(self._loading),
                load_seconds=self._load_seconds,
                host_entries=len(self._host),
                host_bytes=self._host.bytes,
                disk_entries=disk.entries,
                disk_bytes=disk.bytes,
            )

    def changes(self) -> tuple[list[AdapterFigures], list[str]]:
        """Figures of adapters that are other than at the last call, and adapters that are gone since. Looking through
        thousands takes milliseconds, so that is not done while nothing happens."""
        now = self.stats()
        with self._changed:
            if now == self._told:
                return [], []
            self._told = now
            return self._book.changes(self._sizes)

    def valuable(self) -> list[str]:
        """Identities on the host, most valuable first."""
        with self._changed:
            return self._host.identities()

    def close(self) -> None:
        """Drop queued loads, wait for running ones and for files."""
        self._loaders.shutdown(wait=True, cancel_futures=True)
        self._keeper.shutdown(wait=True)
        self._remover.shutdown(wait=True)

    def _start(self, load: _Load) -> None:
        self._loading[load.ref.identity] = load
        self._loaders.submit(self._load, load)

    def _load(self, load: _Load) -> None:
        ref, started = load.ref, time.perf_counter()
        brought, error = None, None
        try:
            brought = self._reader.read(ref)
        except BlobUnavailableError as unavailable:
            error = str(unavailable)
        except OSError as failed:
            error = f"the adapter could not be read on this server ({failed.strerror}); try again."
        except Exception:
            # A loader thread must answer whatever happens, or its sequences wait for ever.
            logging.getLogger(__name__).exception("loading adapter %s failed", ref.identity)
            error = "the adapter could not be loaded because of an internal error."
        seconds = time.perf_counter() - started
        with self._changed:
            self._end(load, brought, seconds)
            entry = None if brought is None else brought.entry
            self._deliver(load.handles, entry, error, seconds)
            if brought is not None:
                self._host.release(brought.entry)
                self._keeping.add(ref.identity)
            self._advance_purge(ref.identity)
        if brought is not None:
            # No load waits for a disk that is slower than the loads: what it does not keep, the store has.
            if self._unkept.acquire(blocking=False):
                _later(self._keeper, self._keep, ref.identity, brought.file)
            else:
                self._close(ref.identity, brought.file)

    def _end(self, load: _Load, brought: Brought | None, seconds: float) -> None:
        identity = load.ref.identity
        del self._loading[identity]
        if brought is None:
            self._failures += 1
            return
        self._loads += 1
        self._load_seconds += seconds
        self._host.keep(brought.entry, brought.weights)
        if load.removed:
            self._host.drop(identity, wipe=True)
        else:
            self._worth.used(identity, brought.entry.size, seconds)
            self._book.loaded(identity, seconds)

    def _keep(self, identity: str, file: WeightFile) -> None:
        """Bring a file safely to the disk, behind the back of those who wait for the adapter."""
        try:
            if identity not in self._purging:
                file.keep()
        finally:
            self._unkept.release()
            self._close(identity, file)

    def _close(self, identity: str, file: WeightFile) -> None:
        """Nothing is to be done with a file any more."""
        try:
            file.close()
        finally:
            with self._changed:
                self._keeping.discard(identity)
                self._advance_purge(identity)

    def _reserve(self, identity: str, size: int) -> HostEntry:
        with self._changed:
            return self._host.reserve(identity, size)

    def _give_up(self, entry: HostEntry) -> None:
        with self._changed:
            self._host.release(entry)

    def _release(self, handle: int) -> None:
        held = self._held.get(handle)
        if not held:
            return
        entry = held.popleft()
        if not held:
            del self._held[handle]
        self._host.release(entry)
        self._advance_purge(entry.identity)

    def _purge(self, identity: str) -> None:
        """Begin to remove what no registered handle needs: from the host as soon as nobody reads it, then the file."""
        if self._handles.get(identity):
            return
        self._handles.pop(identity, None)
        self._purging[identity] = self._purging.get(identity, 0) + (
            self._host.get(identity) is not None
        )
        self._host.drop(identity, wipe=True)
        if load := self._loading.get(identity):
            load.removed = True
        self._book.forget(identity)
        self._worth.forget(identity)
        self._advance_purge(identity)

    def _advance_purge(self, identity: str) -> None:
        if identity not in self._purging or identity in self._keeping:
            return
        load = self._loading.get(identity)
        if not (load and load.removed) and not self._host.still_has(identity):
            _later(self._remover, self._discard, identity, self._purging.pop(identity))

    def _discard(self, identity: str, host_entries: int) -> None:
        """The last step of a purge. One whose file cannot be removed is not confirmed."""
        try:
            removed = self._files.discard(disk_entry(identity))
        except OSError:
            logging.getLogger(__name__).exception("removing weights of %s failed", identity)
            return
        with self._changed:
            self._forgotten.append(Forgotten(identity, host_entries, int(removed)))
            self._changed.notify_all()

    def _deliver(
        self,
        handles: set[int],
        entry: HostEntry | None,
        error: str | None,
        seconds: float = 0.0,
    ) -> None:
        for handle in sorted(handles):
            if entry is not None:
                self._host.hold(entry)
                self._held.setdefault(handle, deque()).append(entry)
            weights = None if entry is None else entry.weights
            self._results.append(LoadResult(handle, weights, error, seconds))
        self._changed.notify_all()

    def _sizes(self, identity: str) -> tuple[int, int]:
        entry = self._host.get(identity)
        name = disk_entry(identity)
        return (0 if entry is None else entry.size), self._files.kept(name)


def _later(
    thread: ThreadPoolExecutor, work: Callable[[str, T], None], identity: str, argument: T
) -> None:
    try:
        thread.submit(work, identity, argument)
    except RuntimeError:  # closed meanwhile
        work(identity, argument)
