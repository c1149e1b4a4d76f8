"""Owns bringing adapters to the host for the engine: the host tier (adapters in kernel layout) above the disk tier,
filled by loader threads off the step loop."""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from loraplex.adapters.blobs import WeightFiles
from loraplex.adapters.errors import BlobUnavailableError, DigestMismatchError
from loraplex.adapters.packing import pack
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.model_config import Module

_REMOVED = "the adapter was removed while it was being loaded."
_DEFAULT_HOST_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One version of one tenant's adapter, admitted: what it takes to load it.

    Attributes:
        identity: opaque; differs between tenants and versions even where the bytes are equal.
        weights_sha256: hex digest of the safetensors file, under which stores know it.
        size: bytes of that file.
        config: canonical config JSON, see `canonical.canonical_config`.
    """

    identity: str
    weights_sha256: str
    size: int
    config: bytes


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, and what is held now.

    Attributes:
        loads, failures: ended loads, by outcome; load_seconds: time of the successful ones.
        hits: requests answered from the host; joins: requests that waited for a load already under way.
        loading: loads under way.
    """

    loads: int
    failures: int
    hits: int
    joins: int
    loading: int
    load_seconds: float
    host_entries: int
    host_bytes: int
    disk_entries: int
    disk_bytes: int


class AdapterCache:
    """An `engine.lora.AdapterSource`. Safe to call from any thread.

    Args:
        files: the tier below; it and the store behind it are called from loader threads.
        modules, dtype: of the base model.
        host_bytes: adapters kept on the host beyond their use, least recently used out first; one under way per
            thread comes on top.
        threads: loads at a time.
        pin: page-lock the buffers, for a GPU to copy from.
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
    ) -> None:
        self._files = files
        self._modules = modules
        self._dtype = dtype
        self._pin = pin
        self._host = _HostTier(host_bytes)
        self._changed = threading.Condition()
        self._refs: dict[int, AdapterRef] = {}
        self._pending: set[int] = set()  # requested, result not collected yet
        self._waiting: dict[str, set[int]] = {}  # by identity: handles a running load will answer
        self._results: list[LoadResult] = []
        self._loads = self._failures = self._hits = self._joins = 0
        self._load_seconds = 0.0
        self._loaders = ThreadPoolExecutor(threads, thread_name_prefix="adapter-loader")
        # Removing a file may have to wait for its reader, which the caller must not.
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="adapter-remover")

    def register(self, handle: int, ref: AdapterRef) -> None:
        """Say what stands behind a handle; must come before `request`.

        Raises:
            ValueError: the handle stands for another adapter already.
        """
        with self._changed:
            if self._refs.setdefault(handle, ref) != ref:
                raise ValueError(f"handle {handle} is taken by another adapter.")

    def forget(self, handle: int) -> None:
        """Remove an adapter from host and disk; a pending request fails."""
        with self._changed:
            ref = self._refs.pop(handle, None)
            if ref is None:
                return
            self._waiting.get(ref.identity, set()).discard(handle)
            if handle in self._pending:
                self._results = [result for result in self._results if result.handle != handle]
                self._deliver({handle}, None, _REMOVED)
            self._purge(ref)

    def forget_file(self, identity: str) -> None:
        """Remove the disk file of an adapter that no handle stands for: one an earlier process has brought there."""
        self._remover.submit(self._discard, identity)

    def request(self, handle: int) -> None:
        """See `AdapterSource.request`."""
        with self._changed:
            if handle in self._pending:
                return
            self._pending.add(handle)
            ref = self._refs.get(handle)
            if ref is None:
                self._deliver({handle}, None, "the adapter is not known here, or was removed.")
            elif weights := self._host.get(ref.identity):
                self._hits += 1
                self._deliver({handle}, weights, None)
            elif ref.identity in self._waiting:
                self._joins += 1
                self._waiting[ref.identity].add(handle)
            else:
                self._waiting[ref.identity] = {handle}
                self._loaders.submit(self._load, ref)

    def collect(self) -> list[LoadResult]:
        """See `AdapterSource.collect`."""
        with self._changed:
            results, self._results = self._results, []
            self._pending.difference_update(result.handle for result in results)
            return results

    def wait(self, timeout: float) -> None:
        """See `AdapterSource.wait`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._results), timeout)

    def stats(self) -> CacheStats:
        disk = self._files.usage()
        with self._changed:
            return CacheStats(
                loads=self._loads,
                failures=self._failures,
                hits=self._hits,
                joins=self._joins,
                loading=len(self._waiting),
                load_seconds=self._load_seconds,
                host_entries=len(self._host),
                host_bytes=self._host.bytes,
                disk_entries=disk.entries,
                disk_bytes=disk.bytes,
            )

    def close(self) -> None:
        """Drop queued loads, wait for running ones and for removals."""
        self._loaders.shutdown(wait=True, cancel_futures=True)
        self._remover.shutdown(wait=True)

    def _load(self, ref: AdapterRef) -> None:
        started = time.perf_counter()
        weights, error = None, None
        try:
            weights = self._read(ref)
        except BlobUnavailableError as unavailable:
            error = str(unavailable)
        except OSError as failed:
            error = f"the adapter could not be read on this server ({failed.strerror}); try again."
        except Exception:
            # A loader thread must answer whatever happens, or its sequences wait for ever.
            logging.getLogger(__name__).exception("loading adapter %s failed", ref.identity)
            error = "the adapter could not be loaded because of an internal error."
        with self._changed:
            handles = self._waiting.pop(ref.identity)
            wanted = any(other.identity == ref.identity for other in self._refs.values())
            if weights is None:
                self._failures += 1
            else:
                self._loads += 1
                self._load_seconds += time.perf_counter() - started
                if wanted:
                    self._host.put(ref.identity, weights)
            self._deliver(handles, weights, error)
            if not wanted:  # forgotten meanwhile: what this load brought to the disk must go too
                self._purge(ref)

    def _read(self, ref: AdapterRef) -> LoRAWeights:
        try:
            return self._pack(ref, fresh=False)
        except DigestMismatchError:
            return self._pack(ref, fresh=True)

    def _pack(self, ref: AdapterRef, fresh: bool) -> LoRAWeights:
        entry = disk_entry(ref.identity)
        with self._files.open(entry, ref.weights_sha256, ref.size, fresh=fresh) as file:
            return pack(
                file, ref.config, ref.weights_sha256, self._modules, self._dtype, pin=self._pin
            )

    def _purge(self, ref: AdapterRef) -> None:
        """Drop what no registered handle needs: the host entry at once, the file soon."""
        if not self._in_use(ref.identity):
            self._host.drop(ref.identity)
            self._remover.submit(self._discard, ref.identity)

    def _in_use(self, identity: str) -> bool:
        return any(ref.identity == identity for ref in self._refs.values())

    def _discard(self, identity: str) -> None:
        with self._changed:
            if self._in_use(identity):
                return
        try:
            self._files.discard(disk_entry(identity))
        except OSError:
            logging.getLogger(__name__).exception("removing weights of %s failed", identity)

    def _deliver(self, handles: set[int], weights: LoRAWeights | None, error: str | None) -> None:
        self._results += [LoadResult(handle, weights, error) for handle in sorted(handles)]
        self._changed.notify_all()


def disk_entry(identity: str) -> str:
    """The name of an adapter's file in the disk tier."""
    return hashlib.sha256(identity.encode()).hexdigest()


class _HostTier:
    """Weights by identity, least recently used out first. Guarded by the cache's lock."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, LoRAWeights] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, identity: str) -> LoRAWeights | None:
        weights = self._entries.get(identity)
        if weights is not None:
            self._entries.move_to_end(identity)
        return weights

    def put(self, identity: str, weights: LoRAWeights) -> None:
        self.drop(identity)
        size = weights.buffer.nbytes
        if size > self._max_bytes:
            return  # the engine has it; keeping it would push out everything else
        self._entries[identity] = weights
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.buffer.nbytes

    def drop(self, identity: str) -> None:
        weights = self._entries.pop(identity, None)
        if weights is not None:
            self.bytes -= weights.buffer.nbytes
