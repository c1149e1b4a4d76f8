"""Owns the life of a tenant's weights files: the `blob` row and its chunk rows together. The row is
committed before the first chunk and removed before the chunks, so chunks without a row are always
garbage."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.blobs import DatabaseBlobs
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import AdapterVersion, Blob, BlobState, Upload
from loraplex.platform.db.scope import EVERY_TENANT

# An upload in one request that is not done after this died with its process.
ABANDONED = timedelta(hours=6)


class Swept(NamedTuple):
    """How many of each went: uploads nobody completed, pushes that died with their process, weights no row knows."""

    expired_uploads: int
    abandoned_pushes: int
    orphaned_weights: int


class Weights:
    """Stored weights of all tenants; every question names the tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.chunks = DatabaseBlobs(database.weights)

    async def find(self, tenant_id: UUID, sha256: str) -> UUID | None:
        """The ready blob with this content, if the tenant has it already."""
        async with self._database.main.reading(tenant_id) as session:
            return await session.scalar(ready_blob(tenant_id, sha256))

    async def store(
        self,
        tenant_id: UUID,
        sha256: str,
        size: int,
        source: AsyncIterator[bytes],
        *,
        limited: bool = True,
    ) -> UUID:
        """Write a verified stream as a blob that is still `uploading`; `adopt` makes it ready. Nothing stays when this
        raises.

        Args:
            limited: it must fit what the tenant may store.

        Raises:
            PayloadTooLargeError: it does not.
        """
        blob = Blob(tenant_id=tenant_id, sha256=sha256, size=size)
        async with self._database.main.writing(tenant_id) as session:
            if limited:
                await check_quota(session, tenant_id, size)
            session.add(blob)
        try:
            await self.chunks.append(blob.id, source)
        except BaseException:
            await self.discard(blob.id)
            raise
        return blob.id

    async def adopt(
        self, session: AsyncSession, tenant_id: UUID, sha256: str, blob_id: UUID
    ) -> tuple[UUID, bool]:
        """Within the transaction that creates a version: the blob to refer to.

        Returns:
            The tenant's blob of this content, and whether `blob_id` was a second copy; then its row is gone, and the
            caller deletes its chunks after the commit.
        """
        known = await session.scalar(ready_blob(tenant_id, sha256).with_for_update())
        if known is not None and known != blob_id:
            await session.execute(delete(Blob).where(Blob.id == blob_id))
            return known, True
        blob = await session.get_one(Blob, blob_id, with_for_update=True)
        blob.state = BlobState.READY
        return blob_id, False

    async def release(self, session: AsyncSession, blob_ids: set[UUID]) -> list[UUID]:
        """Within the transaction that deletes versions: remove the rows of blobs nothing refers to any more.

        Returns:
            Those blobs; the caller deletes their chunks after the commit.
        """
        # Locked first: a version that adopts one of them at this moment either comes before or finds it gone.
        # In one order, so that two deletions that share blobs do not wait for each other.
        held = select(Blob.id).where(Blob.id.in_(blob_ids)).order_by(Blob.id).with_for_update()
        await session.execute(held)
        unused = select(Blob.id).where(
            Blob.id.in_(blob_ids), ~exists().where(AdapterVersion.blob_id == Blob.id)
        )
        gone = list(await session.scalars(unused))
        await session.execute(delete(Blob).where(Blob.id.in_(gone)))
        return gone

    async def discard(self, blob_id: UUID) -> None:
        """Remove a blob that never became ready, and the upload that fed it; one that has become ready meanwhile, in a
        version, stays."""
        unfinished = delete(Blob).where(Blob.id == blob_id, Blob.state == BlobState.UPLOADING)
        async with self._database.main.writing(EVERY_TENANT) as session:
            await session.execute(delete(Upload).where(Upload.blob_id == blob_id))
            await session.execute(unfinished)
            kept = await session.scalar(select(Blob.id).where(Blob.id == blob_id))
        if kept is None:
            await self.chunks.delete(blob_id)

    async def sweep(self) -> Swept:
        """Remove what crashes and expired uploads left behind; safe at any time, by any number of processes."""
        now = utc_now()
        abandoned = select(Blob.id).where(
            Blob.state == BlobState.UPLOADING,
            Blob.created_at < now - ABANDONED,
            ~exists().where(Upload.blob_id == Blob.id),
        )
        expired = select(Upload.blob_id).where(Upload.expires_at < now)
        async with self._database.main.reading(EVERY_TENANT) as session:
            broken = set(await session.scalars(abandoned))
            late = set(await session.scalars(expired))
        for blob_id in broken | late:
            await self.discard(blob_id)
        # In this order: a blob that begins in between has its row before its first chunk.
        stored = await self.chunks.ids()
        async with self._database.main.reading(EVERY_TENANT) as session:
            known = set(await session.scalars(select(Blob.id)))
        for blob_id in stored - known:
            await self.chunks.delete(blob_id)
        return Swept(len(late), len(broken), len(stored - known))


def ready_blob(tenant_id: UUID, sha256: str, size: int | None = None) -> Select[UUID]:
    """The tenant's blob of this content, if there is one."""
    query = select(Blob.id).where(
        Blob.tenant_id == tenant_id, Blob.sha256 == sha256, Blob.state == BlobState.READY
    )
    return query if size is None else query.where(Blob.size == size)
