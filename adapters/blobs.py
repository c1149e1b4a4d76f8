"""Owns the ports through which weights files are read, and their simplest implementation: files of this disk. All are
synchronous and called from several loader threads at once."""

from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from loraplex.adapters.errors import BlobUnavailableError

PIECE_BYTES = 1024 * 1024


class BlobStore(Protocol):
    """Where weights files are kept for good."""

    def read(self, digest: str) -> Iterator[bytes]:
        """The bytes of the file with this hex sha256, in order, in pieces of about `PIECE_BYTES`.

        Raises:
            BlobUnavailableError: there is no such file, or the store cannot be reached; `BlobInterruptedError` if
                another attempt may go better.
        """
        ...

    def size(self, digest: str) -> int:
        """Bytes of a file; raises as `read` does."""
        ...


class FilesUsage(NamedTuple):
    """How many files a tier holds, and their bytes."""

    entries: int
    bytes: int


class WeightFile(Protocol):
    """One adapter's weights file, opened for one reader, who compares its digest."""

    def pieces(self) -> Iterator[bytes]:
        """The bytes in order; once.

        Raises:
            BlobUnavailableError: they cannot be had; the message is fit for their owner.
            OSError: the disk failed.
        """
        ...

    def keep(self) -> None:
        """All bytes were read and right: keep them for the next reader. May take as long as writing them does; a
        failure is logged only."""
        ...

    def close(self) -> None:
        """Done with it."""
        ...


class WeightFiles(Protocol):
    """Weights files on the local disk, brought there when needed.

    An entry belongs to one adapter of one owner: equal files of two owners are two entries, so that neither finds the
    other's already there, and deleting one deletes it.
    """

    def open(self, entry: str, digest: str, size: int, *, fresh: bool = False) -> WeightFile:
        """Open an entry's file for one reader; `fresh`: the last reading did not match, so do not trust a kept one.

        Raises: as `WeightFile.pieces`.
        """
        ...

    def discard(self, entry: str) -> bool:
        """Remove what is kept of an entry, waiting for who has it open; whether there was anything.

        Raises:
            OSError: it could not be removed.
        """
        ...

    def kept(self, entry: str) -> int:
        """Bytes kept of it now."""
        ...

    def usage(self) -> FilesUsage:
        """What is kept now."""
        ...


class KeptFile:
    """A `WeightFile` that is on the disk already."""

    def __init__(self, file: BinaryIO, close: Callable[[], object] = lambda: None) -> None:
        """`close` is called after the file was closed."""
        self._file = file
        self._close = close

    def pieces(self) -> Iterator[bytes]:
        """See `WeightFile.pieces`."""
        return file_pieces(self._file)

    def keep(self) -> None:
        """It is kept."""

    def close(self) -> None:
        """See `WeightFile.close`."""
        self._file.close()
        self._close()


def file_pieces(file: BinaryIO) -> Iterator[bytes]:
    """What is left of a file."""
    while piece := file.read(PIECE_BYTES):
        yield piece


class FileBlobs:
    """Weights files that stay where their owner put them; both `BlobStore` and `WeightFiles`. Copies nothing."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def add(self, digest: str, path: Path) -> None:
        """Make a file known by the digest that was computed when it was judged; readers compare it."""
        self._paths[digest] = path

    def read(self, digest: str) -> Iterator[bytes]:
        """See `BlobStore.read`."""
        with self._open(digest) as file:
            yield from file_pieces(file)

    def size(self, digest: str) -> int:
        """See `BlobStore.size`."""
        with self._open(digest) as file:
            return file.seek(0, 2)

    def open(self, entry: str, digest: str, size: int, *, fresh: bool = False) -> WeightFile:
        """See `WeightFiles.open`."""
        if fresh:
            raise BlobUnavailableError(
                "the adapter's weights file changed after it was added; add the adapter again."
            )
        return KeptFile(self._open(digest))

    def discard(self, entry: str) -> bool:
        """Nothing is kept here: the file is its owner's."""
        return False

    def kept(self, entry: str) -> int:
        """Nothing is."""
        return 0

    def usage(self) -> FilesUsage:
        """Nothing beyond the owner's own files."""
        return FilesUsage(0, 0)

    def _open(self, digest: str) -> BufferedReader:
        path = self._paths.get(digest)
        if path is None:
            raise BlobUnavailableError("the adapter's weights are not known here; add it again.")
        try:
            return path.open("rb")
        except OSError as error:
            raise BlobUnavailableError(
                f"the adapter's weights file cannot be read: {error.strerror}."
            ) from error
