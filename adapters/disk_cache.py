"""Owns the disk tier: weights files, one per adapter, least recently used out first. Files appear whole or not at
all (temporary name, fsync, rename), and a crash leaves nothing that the next start does not remove."""

import fcntl
import hashlib
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from loraplex.adapters.blobs import BlobStore, FilesUsage
from loraplex.adapters.errors import DigestMismatchError

_SUFFIX = ".safetensors"
_TEMPORARY = ".tmp"
_NAME = re.compile(r"[0-9a-f]{64}")


class DiskCache:
    """A `WeightFiles` over a `BlobStore`. Thread-safe; processes may share a directory.

    Args:
        directory: created if missing; holds nothing else.
        max_bytes: files beyond it are removed, oldest use first; a larger file is read once and not kept.
    """

    def __init__(self, store: BlobStore, directory: Path, max_bytes: int) -> None:
        self._store = store
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy: set[str] = set()  # entries some thread opens, fetches or removes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        self._find_files()

    def open(self, entry: str, digest: str, size: int, *, fresh: bool = False) -> BufferedReader:
        """See `WeightFiles.open`; one fetch at a time per entry, the others wait for it."""
        with self._alone(entry):
            if not fresh and (file := self._open_kept(entry, size)):
                return file
            self._remove(entry)
            return self._fetch(entry, digest, size)

    def discard(self, entry: str) -> None:
        """See `WeightFiles.discard`."""
        with self._alone(entry):
            self._remove(entry)

    def keep_only(self, entries: Collection[str]) -> None:
        """Remove every other file: what was deleted while this process was down."""
        with self._lock:
            gone = [entry for entry in self._sizes if entry not in entries]
        for entry in gone:
            self.discard(entry)

    def usage(self) -> FilesUsage:
        with self._lock:
            return FilesUsage(len(self._sizes), sum(self._sizes.values()))

    def path(self, entry: str) -> Path:
        """Where a kept file lies."""
        return self._directory / f"{entry}{_SUFFIX}"

    @contextmanager
    def _alone(self, entry: str) -> Iterator[None]:
        with self._idle:
            self._idle.wait_for(lambda: entry not in self._busy)
            self._busy.add(entry)
        try:
            yield
        finally:
            with self._idle:
                self._busy.discard(entry)
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
            self._sizes.move_to_end(entry)
        return file

    def _fetch(self, entry: str, digest: str, size: int) -> BufferedReader:
        keep = size <= self._max_bytes
        if keep:
            self._make_room(size)
        handle, name = tempfile.mkstemp(_TEMPORARY, entry[:16], self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                # Held while writing: a locked temporary file has a living owner.
                fcntl.flock(file, fcntl.LOCK_EX)
                self._write(file, digest, size)
                reader = Path(name).open("rb")  # noqa: SIM115 - the caller closes it
                if keep:
                    Path(name).rename(self.path(entry))
            if not keep:
                return reader
            self._sync_directory()
            with self._lock:
                self._sizes[entry] = size
            self._make_room(0)  # others may have fetched at the same time
            return reader
        finally:
            Path(name).unlink(missing_ok=True)

    def _write(self, file: BinaryIO, digest: str, size: int) -> None:
        hashed, written = hashlib.sha256(), 0
        for piece in self._store.read(digest):
            written += len(piece)
            if written > size:
                break
            hashed.update(piece)
            file.write(piece)
        if written != size or hashed.hexdigest() != digest:
            raise DigestMismatchError(
                "the adapter's stored weights do not match their digest; push the adapter again."
            )
        file.flush()
        os.fsync(file.fileno())

    def _make_room(self, size: int) -> None:
        while True:
            with self._lock:
                idle = (entry for entry in self._sizes if entry not in self._busy)
                victim = next(idle, None)
                if victim is None or sum(self._sizes.values()) + size <= self._max_bytes:
                    return
                # Nobody is opening it, and opening needs this lock to become busy.
                self._sizes.pop(victim)
                self.path(victim).unlink(missing_ok=True)

    def _remove(self, entry: str) -> None:
        with self._lock:
            self._sizes.pop(entry, None)
        self.path(entry).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        for path in self._directory.glob(f"*{_TEMPORARY}"):
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
        for _, entry, size in sorted(found):
            self._sizes[entry] = size
        self._make_room(0)

    def _sync_directory(self) -> None:
        handle = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
