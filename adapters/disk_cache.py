"""Owns the disk tier: weights files, one per adapter, those worth least given up first. Files appear whole or not at
all (temporary name, fsync, rename), and a crash leaves nothing that the next start does not remove."""

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Collection
from io import BufferedReader
from pathlib import Path

from loraplex.adapters.blobs import BlobStore, FilesUsage, KeptFile, WeightFile
from loraplex.adapters.fetch import TEMPORARY, Fetch
from loraplex.adapters.worth import Worth

_SUFFIX = ".safetensors"
_NAME = re.compile(r"[0-9a-f]{64}")
# What fetching is taken to cost for files an earlier process left: the same per byte for all, so that among them only
# the order of use counts. A local PostgreSQL reads at about this many bytes per second.
_USUAL_RATE = 400e6


class DiskCache:
    """A `WeightFiles` over a `BlobStore`. Thread-safe; processes may share a directory.

    Args:
        directory: created if missing; holds nothing else.
        max_bytes: files beyond it are removed, those worth least first; a larger file is read once and not kept.
        clock: seconds, to measure what fetching costs.
    """

    def __init__(
        self,
        store: BlobStore,
        directory: Path,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._directory = directory
        self._max_bytes = max_bytes
        self.clock = clock
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy: set[str] = set()  # entries some thread reads, fetches or removes
        self._sizes: dict[str, int] = {}
        self._coming: dict[str, int] = {}  # bytes of files being written
        self._worth = Worth(clock)
        directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        self._find_files()

    def open(self, entry: str, digest: str, size: int, *, fresh: bool = False) -> WeightFile:
        """See `WeightFiles.open`; one reader at a time per entry, the others wait for it."""
        self._begin(entry)
        try:
            if not fresh and (file := self._open_kept(entry, size)):
                return KeptFile(file, lambda: self._end(entry))
            self._remove(entry)
            return Fetch(self, entry, self._store.read(digest), size, lambda: self._end(entry))
        except BaseException:
            self._end(entry)
            raise

    def discard(self, entry: str) -> bool:
        """See `WeightFiles.discard`."""
        self._begin(entry)
        try:
            self._worth.forget(entry)
            return self._remove(entry)
        finally:
            self._end(entry)

    def entries(self) -> set[str]:
        """What is kept now."""
        with self._lock:
            return set(self._sizes)

    def keep_only(self, entries: Collection[str]) -> None:
        """Remove every other file: what was deleted while this process was down."""
        for entry in self.entries().difference(entries):
            self.discard(entry)

    def kept(self, entry: str) -> int:
        """See `WeightFiles.kept`."""
        return self._sizes.get(entry, 0)

    def usage(self) -> FilesUsage:
        """See `WeightFiles.usage`."""
        with self._lock:
            return FilesUsage(len(self._sizes), sum(self._sizes.values()))

    def path(self, entry: str) -> Path:
        """Where a kept file lies."""
        return self._directory / f"{entry}{_SUFFIX}"

    def _begin(self, entry: str) -> None:
        with self._idle:
            self._idle.wait_for(lambda: entry not in self._busy)
            self._busy.add(entry)

    def _end(self, entry: str) -> None:
        with self._idle:
            self._busy.discard(entry)
            self._coming.pop(entry, None)
            self._idle.notify_all()

    def _open_kept(self, entry: str, size: int) -> BufferedReader | None:
        try:
            file = self.path(entry).open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            return None
        os.utime(file.fileno())  # the order of use survives a restart
        with self._lock:
            self._sizes[entry] = size
            self._worth.used(entry, size)
        return file

    def expect(self, entry: str, size: int) -> Path | None:
        """Make room for a file about to be written; where to put it, or None if one of this size is not kept."""
        if size > self._max_bytes:
            return None
        with self._lock:
            self._coming[entry] = size
            self._make_room()
        return self._directory

    def adopt(self, entry: str, temporary: Path, size: int, seconds: float) -> None:
        """Keep a file that is whole and on the disk; `seconds` is what fetching it took."""
        temporary.rename(self.path(entry))
        handle = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        with self._lock:
            self._coming.pop(entry, None)
            self._sizes[entry] = size
            self._worth.used(entry, size, seconds)
            self._make_room()

    def _make_room(self) -> None:
        """Under the lock."""
        while sum(self._sizes.values()) + sum(self._coming.values()) > self._max_bytes:
            # Nobody is opening an idle one, and opening needs the lock to become busy.
            idle = [entry for entry in self._sizes if entry not in self._busy]
            if not idle:
                return
            victim = min(idle, key=self._worth.priority)
            self._worth.evicted(victim)
            self._sizes.pop(victim)
            self.path(victim).unlink(missing_ok=True)

    def _remove(self, entry: str) -> bool:
        with self._lock:
            self._sizes.pop(entry, None)
        try:
            self.path(entry).unlink()
        except FileNotFoundError:
            return False
        return True

    def _remove_leftovers(self) -> None:
        for path in self._directory.glob(f"*{TEMPORARY}"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (BlockingIOError, FileNotFoundError):
                continue  # another process is writing it, or has just finished

    def _find_files(self) -> None:
        found = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if _NAME.fullmatch(path.stem):
                status = path.stat()
                found.append((status.st_mtime, path.stem, status.st_size))
        with self._lock:
            for _, entry, size in sorted(found):
                self._sizes[entry] = size
                self._worth.used(entry, size, size / _USUAL_RATE)
            self._make_room()
