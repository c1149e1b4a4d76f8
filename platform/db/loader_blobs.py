"""Owns the synchronous door to stored weights, for the loader threads of an engine process:
`LoaderBlobs` implements the `BlobStore` port of `adapters` on the database."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import TypeVar
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.blobs import DatabaseBlobs
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import Blob, BlobState
from loraplex.platform.settings import Settings

T = TypeVar("T")


class LoaderBlobs:
    """Reads ready blobs by the SHA-256 of their bytes. Safe to call from any number of threads.

    The database drivers are asynchronous, so one thread of its own runs their event loop.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
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

    def size(self, digest: str) -> int:
        """Bytes of the blob.

        Raises:
            KeyError: no ready blob has this SHA-256.
        """
        return self._submit(self._find(digest)).result()[1]

    def read(self, digest: str) -> Iterator[bytes]:
        """The bytes in order, in pieces of at most 1 MiB; the next batch is fetched while one is consumed.

        Raises:
            KeyError: no ready blob has this SHA-256.
            OSError: the blob was deleted while it was read.
        """
        blob_id, size = self._submit(self._find(digest)).result()
        seq, received = 0, 0
        coming = self._submit(self._blobs.read_batch(blob_id, seq))
        while batch := coming.result():
            seq += len(batch)
            coming = self._submit(self._blobs.read_batch(blob_id, seq))
            for data in batch:
                received += len(data)
                yield data
        if received != size:
            raise OSError(f"The stored weights {digest} end after {received} of {size} bytes.")

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._submit(self._database.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _find(self, digest: str) -> tuple[UUID, int]:
        query = (
            select(Blob.id, Blob.size)
            .where(Blob.sha256 == digest, Blob.state == BlobState.READY)
            .order_by(Blob.id)
            .limit(1)
        )
        async with self._database.main.connection() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise KeyError(f"No stored weights have the SHA-256 {digest}.")
        return row[0], row[1]

    def _submit(self, work: Coroutine[object, object, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)
