"""Owns the bytes of adapter weights: rows of 1 MiB in the weights database, written and read as
streams. Which blobs there are, and whose, is kept in the `blob` table; here a blob is just an
id."""

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from loraplex.platform.db.database import Store
from loraplex.platform.db.models import BlobChunk

CHUNK_SIZE = 1024 * 1024
# Chunks per transaction: 8 MiB keeps the SQLite write-ahead log small and loses little when a connection breaks.
BATCH = 8


class ChunkConflictError(Exception):
    """Two writers appended to one blob at once; this one lost."""


class DatabaseBlobs:
    """Asynchronous access for API workers."""

    def __init__(self, weights: Store) -> None:
        self._weights = weights

    async def length(self, blob_id: UUID) -> int:
        """Bytes stored so far."""
        query = (
            select(BlobChunk.seq, func.length(BlobChunk.data))
            .where(BlobChunk.blob_id == blob_id)
            .order_by(BlobChunk.seq.desc())
            .limit(1)
        )
        async with self._weights.connection() as connection:
            last = (await connection.execute(query)).first()
        return 0 if last is None else last[0] * CHUNK_SIZE + last[1]

    async def append(self, blob_id: UUID, source: AsyncIterator[bytes], offset: int = 0) -> int:
        """Write a stream from byte `offset` on, which must be where the stored bytes end; every full batch is
        committed, the rest when the stream ends.

        When `source` raises, committed batches stay: a later call goes on from `length`.

        Returns:
            Bytes stored now.
        Raises:
            ChunkConflictError: bytes end elsewhere, because somebody else is writing this blob.
        """
        seq, short = divmod(offset, CHUNK_SIZE)
        pending = bytearray(await self._tail(blob_id, seq, short) if short else b"")
        async for piece in source:
            pending += piece
            while len(pending) >= BATCH * CHUNK_SIZE:
                seq, short = await self._write(blob_id, seq, pending, BATCH, short), 0
        if pending:
            await self._write(blob_id, seq, pending, -(-len(pending) // CHUNK_SIZE), short)
        return await self.length(blob_id)

    async def read(self, blob_id: UUID) -> AsyncIterator[bytes]:
        """The bytes in order, 1 MiB at a time. No transaction stays open between batches."""
        seq = 0
        while batch := await self.read_batch(blob_id, seq):
            for data in batch:
                yield data
            seq += len(batch)

    async def read_batch(self, blob_id: UUID, seq: int) -> list[bytes]:
        """Up to `BATCH` chunks from chunk `seq` on; empty past the end."""
        query = (
            select(BlobChunk.data)
            .where(BlobChunk.blob_id == blob_id, BlobChunk.seq >= seq)
            .order_by(BlobChunk.seq)
            .limit(BATCH)
        )
        async with self._weights.connection() as connection:
            return list(await connection.scalars(query))

    async def delete(self, blob_id: UUID) -> None:
        """Remove every chunk; nothing happens when there is none."""
        async with self._weights.transaction() as connection:
            await connection.execute(delete(BlobChunk).where(BlobChunk.blob_id == blob_id))

    async def ids(self) -> set[UUID]:
        """Every blob that has chunks, be it only later ones: a writer may not know yet that its blob was deleted."""
        query = select(BlobChunk.blob_id).distinct()
        async with self._weights.connection() as connection:
            return set(await connection.scalars(query))

    async def _tail(self, blob_id: UUID, seq: int, short: int) -> bytes:
        query = select(BlobChunk.data).where(BlobChunk.blob_id == blob_id, BlobChunk.seq == seq)
        async with self._weights.connection() as connection:
            data = (await connection.execute(query)).scalar_one_or_none()
        if data is None or len(data) != short:
            raise ChunkConflictError("Another upload is writing the same bytes.")
        return data

    async def _write(
        self, blob_id: UUID, seq: int, pending: bytearray, count: int, short: int
    ) -> int:
        """Move the first `count` chunks of `pending` to the database; returns the next chunk number.

        `short` is the length of a stored last chunk that the first one replaces, 0 if there is none.
        """
        view = memoryview(pending)
        rows = [
            {
                "blob_id": blob_id,
                "seq": seq + i,
                "data": bytes(view[i * CHUNK_SIZE : (i + 1) * CHUNK_SIZE]),
            }
            for i in range(count)
        ]
        view.release()
        tail = delete(BlobChunk).where(
            BlobChunk.blob_id == blob_id,
            BlobChunk.seq == seq,
            func.length(BlobChunk.data) == short,
        )
        try:
            async with self._weights.transaction() as connection:
                if short and (await connection.execute(tail)).rowcount != 1:
                    raise ChunkConflictError("Another upload is writing the same bytes.")
                await connection.execute(insert(BlobChunk), rows)
        except IntegrityError as error:
            raise ChunkConflictError("Another upload is writing the same bytes.") from error
        del pending[: count * CHUNK_SIZE]
        return seq + count
