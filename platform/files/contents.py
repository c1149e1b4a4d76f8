"""Owns the bytes of files: parts, each a blob, in their order."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Blob, BlobState, FilePart
from loraplex.platform.tenants.living import of_living_tenant


class Contents:
    """The bytes of files of all tenants; every question names the tenant."""

    def __init__(self, database: Database, weights: Weights) -> None:
        self._database = database
        self._weights = weights

    async def store(
        self, tenant_id: UUID, size: int, source: AsyncIterator[bytes], *, limited: bool = True
    ) -> UUID:
        """Write a blob that belongs to nothing yet: `adopt` gives it to a part, `discard` removes it. Nothing stays
        when this raises, or when the process dies before one of the two.

        Args:
            limited: it counts against the quota in any case; with this it must also fit.

        Raises:
            PayloadTooLargeError: it is more than the tenant may store.
            NotFoundError: the tenant was deleted meanwhile.
        """
        with of_living_tenant():
            return await self._weights.store(tenant_id, "", size, source, limited=limited)

    async def discard(self, blob_id: UUID) -> None:
        """Remove a blob that was not adopted."""
        await self._weights.discard(blob_id)

    async def adopt(self, session: AsyncSession, blob_id: UUID, part: FilePart) -> None:
        """Within a transaction: make a blob the bytes of a new part."""
        blob = await session.get_one(Blob, blob_id, with_for_update=True)
        blob.state = BlobState.FILE
        part.blob_id, part.size = blob_id, blob.size
        session.add(part)

    async def release(self, session: AsyncSession, parts: Sequence[FilePart]) -> list[UUID]:
        """Within a transaction: remove parts with the rows of their blobs.

        Returns:
            Those blobs; the caller deletes their chunks after the commit, with `erase`.
        """
        gone = [part.blob_id for part in parts]
        await session.execute(delete(FilePart).where(FilePart.blob_id.in_(gone)))
        await session.execute(delete(Blob).where(Blob.id.in_(gone)))
        return gone

    async def erase(self, blob_ids: Sequence[UUID]) -> None:
        """Remove the bytes of blobs whose rows are gone. What this does not come to, the next collection does."""
        for blob_id in blob_ids:
            await self._weights.chunks.delete(blob_id)

    async def read(self, tenant_id: UUID, file_id: UUID) -> AsyncIterator[bytes]:
        """The bytes of a file in order; fewer if it is deleted meanwhile."""
        query = select(FilePart.blob_id).where(FilePart.file_id == file_id)
        async with self._database.main.reading(tenant_id) as session:
            blobs = (await session.scalars(query.order_by(FilePart.position))).all()
        for blob_id in blobs:
            async for piece in self.read_blob(blob_id):
                yield piece

    def read_blob(self, blob_id: UUID) -> AsyncIterator[bytes]:
        """The bytes of one blob."""
        return self._weights.chunks.read(blob_id)
