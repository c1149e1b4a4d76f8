"""Owns the synchronous door to the database, for the threads of a loader process: `LoaderBlobs` implements the
`BlobStore` port of `adapters` on the stored chunks."""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from loraplex.adapters.errors import BlobInterruptedError, BlobUnavailableError
from loraplex.platform.db.blobs import BATCH, CHUNK_SIZE, DatabaseBlobs
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import Blob, BlobState
from loraplex.platform.settings import Settings

T = TypeVar("T")

# Batches of chunks on their way at a time, each on a connection of its own: two keep a PostgreSQL backend and the
# driver busy at once. More only take memory, 8 MiB each.
BATCHES_AHEAD = 2
# A batch of 8 MiB that takes longer has met a database that hangs; requests wait for it.
BATCH_SECONDS = 20.0


class LoaderBlobs:
    """Reads ready blobs by the SHA-256 of their bytes. Safe to call from any number of threads.

    The database drivers are asynchronous, so one thread of its own runs their event loop.

    Attributes:
        database: for other work on that loop, see `run`.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._blobs = DatabaseBlobs(database.weights)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="loader-blobs", daemon=True
        )
        self._thread.start()

    @classmethod
    def open(cls, settings: Settings) -> "LoaderBlobs":
        """Connections of its own to the database that `settings` names."""
        return cls(open_database(settings))

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run database work and wait for it."""
        return self._submit(work).result()

    def size(self, digest: str) -> int:
        """Bytes of the blob; raises as `read` does."""
        try:
            return self.run(self._find(digest))[1]
        except (SQLAlchemyError, OSError) as error:
            raise _interrupted() from error

    def read(self, digest: str) -> Iterator[bytes]:
        """The bytes in order, in pieces of at most 1 MiB; the next batches are fetched while one is consumed.

        Raises:
            BlobUnavailableError: no ready blob has this SHA-256, or it was deleted while it was read.
            BlobInterruptedError: the database did not answer.
        """
        try:
            yield from self._read(digest)
        except (SQLAlchemyError, OSError) as error:
            raise _interrupted() from error

    def close(self) -> None:
        """Close the connections and end the thread."""
        self.run(self.database.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _read(self, digest: str) -> Iterator[bytes]:
        blob_id, size = self._submit(self._find(digest)).result(BATCH_SECONDS)
        left = deque(range(0, -(-size // CHUNK_SIZE), BATCH))
        coming: deque[Future[list[bytes]]] = deque()
        received = 0
        try:
            while left or coming:
                while left and len(coming) < BATCHES_AHEAD:
                    coming.append(self._submit(self._blobs.read_batch(blob_id, left.popleft())))
                for data in coming.popleft().result(BATCH_SECONDS):
                    received += len(data)
                    yield data
        finally:
            for batch in coming:
                batch.cancel()
        if received != size:
            raise BlobUnavailableError(
                f"the adapter's stored weights end after {received} of {size} bytes; push the adapter again."
            )

    async def _find(self, digest: str) -> tuple[UUID, int]:
        query = (
            select(Blob.id, Blob.size)
            .where(Blob.sha256 == digest, Blob.state == BlobState.READY)
            .order_by(Blob.id)
            .limit(1)
        )
        async with self.database.main.connection() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise BlobUnavailableError("the adapter's weights are not stored any more.")
        return row[0], row[1]

    def _submit(self, work: Coroutine[object, object, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _interrupted() -> BlobInterruptedError:
    return BlobInterruptedError(
        "the database did not answer while the adapter was read; try again."
    )
