"""Owns the loader process: adapters from database and disk into the memory its engine process reads. Started by the
engine process as `python -m loraplex.platform.engines.loader`; imports nothing of the web framework."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec
import torch

from loraplex.adapters.cache import AdapterCache
from loraplex.adapters.disk_cache import DiskCache
from loraplex.adapters.host_memory import SharedMemory
from loraplex.engine.lora import LoadResult
from loraplex.engine.model_config import ModelConfig
from loraplex.platform.db.loader_blobs import LoaderBlobs
from loraplex.platform.db.warm_set import WarmSet
from loraplex.platform.engines.loader_messages import (
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
    ToLoader,
    Vacate,
    frame,
    split,
)
from loraplex.platform.engines.process import LoaderLaunch, read_launch
from loraplex.platform.engines.warm_keeper import WarmKeeper
from loraplex.platform.settings import Settings

NEWS_SECONDS = 1.0
# Loads at a time. One keeps a core busy with packing and half of another with hashing and writing; the rest of the
# machine belongs to the engine and the API workers.
MAX_THREADS = 8


def main() -> int:
    """Run until the engine process hangs up or dies."""
    launch = read_launch(LoaderLaunch)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    torch.set_num_threads(1)  # loads run beside each other instead
    settings = Settings.from_json(launch.settings)
    shape = ModelConfig.from_directory(Path(launch.directory))
    door = LoaderBlobs.open(settings)
    # One directory per base model: each has one process that keeps it within its size.
    directory = settings.data_dir / "cache" / shape.fingerprint[:16]
    files = DiskCache(door, directory, settings.disk_cache_size)
    memory = _memory(launch)
    cores = os.cpu_count() or 1
    cache = AdapterCache(
        files,
        shape.modules(),
        getattr(torch, launch.dtype),
        memory=memory,
        threads=max(2, min(MAX_THREADS, cores // 2)),
    )
    cache.occupy(launch.held)
    engine = _Engine(socket.socket(fileno=launch.channel_fd))
    keeper = WarmKeeper(
        door, WarmSet(door.database, shape.fingerprint), cache, files, engine.restored
    )
    loader = Loader(cache, memory, engine, keeper)

    def stop(signum: int, frame: FrameType | None) -> None:
        engine.hang_up()

    signal.signal(signal.SIGTERM, stop)
    keeper.start()
    try:
        loader.run()
    finally:
        keeper.close()
        cache.close()
        door.close()
    return 0


class _Engine:
    """The socket to the engine process."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()
        self._arrived = bytearray()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToLoader)

    def receive(self) -> list[ToLoader] | None:
        """The next orders; waits for them. None when the engine has hung up."""
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            return None
        if not data:
            return None
        self._arrived += data
        return [self._decoder.decode(body) for body in split(self._arrived)]

    def send(self, messages: list[FromLoader]) -> None:
        """Send in order, waiting while the engine does not read.

        Raises:
            OSError: the engine has hung up.
        """
        with self._sending:
            self._socket.sendall(b"".join(frame(self._encoder.encode(each)) for each in messages))

    def restored(self, message: Restored) -> None:
        """Tell of an adapter of the warm set."""
        self.send([message])

    def hang_up(self) -> None:
        """End both directions; `receive` returns None."""
        with suppress(OSError):  # the engine may have been first
            self._socket.shutdown(socket.SHUT_RDWR)


class Loader:
    """Passes orders to the cache, and what comes of them back."""

    def __init__(
        self, cache: AdapterCache, memory: SharedMemory, engine: _Engine, keeper: WarmKeeper
    ) -> None:
        self._cache = cache
        self._memory = memory
        self._engine = engine
        self._keeper = keeper
        self._ended = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="loader-reports", daemon=True)

    def run(self) -> None:
        """Until the engine hangs up."""
        self._reporter.start()
        while (orders := self._engine.receive()) is not None:
            for order in orders:
                self._obey(order)
        self._ended.set()

    def _obey(self, order: ToLoader) -> None:
        match order:
            case Load(handle, ref):
                if ref is not None:
                    self._cache.register(handle, ref)
                self._cache.request(handle)
            case Release(handle):
                self._cache.release(handle)
            case Vacate(start):
                self._cache.vacate(start)
            case Forget(handle, identity):
                if handle is None:
                    self._cache.forget_identity(identity)
                else:
                    self._cache.forget(handle)
            case Pin(refs):
                self._cache.pin([ref.identity for ref in refs])
                self._keeper.bring(refs)
            case Resident(identities):
                self._keeper.resident = identities

    def _report(self) -> None:
        told = 0.0
        try:
            self._engine.send([News(self._cache.stats(), *self._cache.changes())])  # it is up
            while not self._ended.is_set():
                self._cache.watch(NEWS_SECONDS / 2)
                messages: list[FromLoader] = [self._result(each) for each in self._cache.collect()]
                messages += [
                    Gone(each.identity, each.host_entries, each.disk_files)
                    for each in self._cache.forgotten()
                ]
                now = time.monotonic()
                if now - told >= NEWS_SECONDS:
                    told = now
                    messages.append(News(self._cache.stats(), *self._cache.changes()))
                if messages:
                    self._engine.send(messages)
        except OSError:
            self._engine.hang_up()

    def _result(self, result: LoadResult) -> FromLoader:
        weights = result.weights
        if weights is None:
            return Failed(result.handle, result.error or "the adapter could not be loaded.")
        return Loaded(
            result.handle,
            self._memory.start_of(weights.buffer),
            weights.buffer.nbytes,
            weights.modules.tobytes(),
            weights.ranks.tobytes(),
            weights.a_rows.tobytes(),
            weights.b_rows.tobytes(),
            result.seconds,
        )


def _memory(launch: LoaderLaunch) -> SharedMemory:
    """The shared memory, with what a dead predecessor has left wiped, except what the engine still reads."""
    ends = [start + size for start, size in launch.held if start >= launch.capacity]
    skip = max(ends, default=launch.capacity) - launch.capacity
    memory = SharedMemory(launch.memory_fd, launch.capacity, skip=skip)
    if launch.successor:
        memory.wipe_all(launch.held)
    return memory


if __name__ == "__main__":
    sys.exit(main())
