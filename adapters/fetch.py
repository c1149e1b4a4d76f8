"""Owns bringing one weights file from the store: handed to its reader while it is written to the disk beside, so that
the reader never waits for the disk; it becomes a kept file only after the reader has found it right."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from loraplex.adapters.errors import DigestMismatchError
from loraplex.adapters.pieces import Follower

TEMPORARY = ".tmp"


class Keeper(Protocol):
    """Where files are kept; see `disk_cache.DiskCache`."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds."""
        ...

    def expect(self, entry: str, size: int) -> Path | None:
        """Make room; the directory to write to, None if a file of this size is not kept."""
        ...

    def adopt(self, entry: str, temporary: Path, size: int, seconds: float) -> None:
        """Keep a file that is whole and on the disk."""
        ...


class Fetch:
    """A `blobs.WeightFile` that comes from the store. `closed` is called at the end, once."""

    def __init__(
        self,
        keeper: Keeper,
        entry: str,
        source: Iterator[bytes],
        size: int,
        closed: Callable[[], object],
    ) -> None:
        self._keeper = keeper
        self._entry = entry
        self._source = source
        self._size = size
        self._closed = closed
        self._started = keeper.clock()
        self._seconds = 0.0
        self._writer: _Writer | None = None
        self._behind = False  # the disk is too slow for this file: it is not kept

    def pieces(self) -> Iterator[bytes]:
        """See `WeightFile.pieces`."""
        read = 0
        for piece in self._source:
            if not read and piece:  # the first, so there is something to keep
                self._writer = self._begin()
            read += len(piece)
            if read > self._size:
                break
            if self._writer is not None and not self._behind:
                self._behind = not self._writer.offer(piece)
            yield piece
        if read != self._size:
            raise DigestMismatchError(
                "the adapter's stored weights do not match their digest; push the adapter again."
            )
        self._seconds = self._keeper.clock() - self._started

    def keep(self) -> None:
        """See `WeightFile.keep`."""
        if self._writer is None or self._behind:
            return
        try:
            path = self._writer.finish()
            self._keeper.adopt(self._entry, path, self._size, self._seconds)
        except OSError:
            _logger().exception("an adapter's weights could not be kept on the disk")

    def close(self) -> None:
        """See `WeightFile.close`."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._closed()

    def _begin(self) -> "_Writer | None":
        try:
            directory = self._keeper.expect(self._entry, self._size)
            return None if directory is None else _Writer(directory, self._entry[:16])
        except OSError:  # a full disk is no reason not to serve
            _logger().exception("an adapter's weights could not be written to the disk")
            return None


class _Writer:
    """A temporary file, written on a thread of its own. It is locked: a locked one has a living owner."""

    def __init__(self, directory: Path, prefix: str) -> None:
        handle, name = tempfile.mkstemp(TEMPORARY, prefix, directory)
        self._path = Path(name)
        self._file = os.fdopen(handle, "wb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._thread = Follower(self._write, "adapter-file")
        self.offer = self._thread.offer

    def finish(self) -> Path:
        """Return when everything is on the disk.

        Raises:
            OSError: it could not be written.
        """
        self._thread.join()
        os.fsync(self._file.fileno())
        return self._path

    def close(self) -> None:
        """Remove the file, unless it has another name by now."""
        self._thread.skip()
        self._thread.stop()
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]


def _logger() -> logging.Logger:
    return logging.getLogger(__name__)
