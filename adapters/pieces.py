"""Owns reading a weights file as a stream of pieces: each piece goes to the reader, and beside it to threads that hash
it and write it to the disk, so that the slowest of these alone sets the pace."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator

from loraplex.adapters.errors import DigestMismatchError

# Pieces a thread may be behind the reader, of about 1 MiB each: beyond that the reader waits for it.
MAX_BEHIND = 32


class Follower:
    """A thread that does something with every piece, in order, a little behind whoever reads them."""

    def __init__(self, work: Callable[[bytes], object], name: str) -> None:
        self._work = work
        self._pieces: queue.Queue[bytes | None] = queue.Queue(MAX_BEHIND)
        self._error: BaseException | None = None
        self._skipping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, piece: bytes) -> None:
        """Hand over the next piece."""
        self._pieces.put(piece)

    def offer(self, piece: bytes) -> bool:
        """Hand over the next piece unless the thread is too far behind."""
        try:
            self._pieces.put_nowait(piece)
        except queue.Full:
            return False
        return True

    def skip(self) -> None:
        """Do nothing with the pieces that are left."""
        self._skipping = True

    def stop(self) -> None:
        """Return when every piece is done, or skipped after an error; may be called again."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()

    def join(self) -> None:
        """As `stop`, but raises what the work raised."""
        self.stop()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if self._error is None and not self._skipping:
                try:
                    self._work(piece)
                except BaseException as error:  # `join` raises it
                    self._error = error


class VerifiedReader:
    """Reads pieces forwards and hashes them on a thread of its own. Use as a context manager."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self._hasher = Follower(self._digest.update, "adapter-hash")
        self._piece = memoryview(b"")

    def __enter__(self) -> "VerifiedReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self._hasher.stop()

    def read(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            DigestMismatchError: the file ends before.
        """
        data = bytearray(length)
        self.fill(memoryview(data))
        return bytes(data)

    def fill(self, target: memoryview) -> None:
        """Read exactly as many bytes as `target` has into it; raises as `read` does."""
        done, length = 0, len(target)
        while done < length:
            if not self._piece:
                self._next()
            count = min(length - done, len(self._piece))
            target[done : done + count] = self._piece[:count]
            self._piece = self._piece[count:]
            done += count

    def skip(self, length: int) -> None:
        """Pass over bytes that are hashed only."""
        while length:
            if not self._piece:
                self._next()
            count = min(length, len(self._piece))
            self._piece = self._piece[count:]
            length -= count

    def check(self, sha256: str) -> None:
        """Nothing may be left, and everything must have this hex digest.

        Raises:
            DigestMismatchError: these are other bytes.
        """
        more = bool(self._piece) or any(map(len, self._pieces))
        self._hasher.join()
        if more or self._digest.hexdigest() != sha256:
            raise DigestMismatchError("the adapter's stored weights do not match their digest.")

    def _next(self) -> None:
        for piece in self._pieces:
            if piece:
                self._hasher.put(piece)
                self._piece = memoryview(piece)
                return
        raise DigestMismatchError("the adapter's stored weights are truncated.")
