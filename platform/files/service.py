"""Owns files of the OpenAI API: keeping, listing, reading and deleting them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, delete, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import File, FilePart
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.ids import FILE, absent, shown
from loraplex.platform.files.schemas import MONTH
from loraplex.platform.tenants.living import of_living_tenant

MAX_FILE = 512 * 1024**2  # bytes of one request; larger files come in parts
SWEPT_AT_ONCE = 100  # expired files whose rows one transaction removes


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be. `lifetime` are seconds, None: until it is deleted."""

    tenant_id: UUID
    created_by: str
    filename: str
    purpose: str
    lifetime: int | None = None

    def row(self, size: int) -> File:
        """Its row, from now on."""
        now, lifetime = utc_now(), self.lifetime
        if lifetime is None and self.purpose == "batch":
            lifetime = MONTH  # as OpenAI has it
        return File(
            tenant_id=self.tenant_id,
            created_at=now,
            created_by=self.created_by,
            filename=_plain(self.filename),
            purpose=self.purpose,
            size=size,
            expires_at=None if lifetime is None else now + timedelta(seconds=lifetime),
        )


class Files:
    """Files of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents

    async def create(self, wanted: Wanted, size: int, source: AsyncIterator[bytes]) -> File:
        """Keep `size` bytes as a file.

        Raises:
            PayloadTooLargeError: it is more than the tenant may store.
            NotFoundError: the tenant was deleted meanwhile.
        """
        blob_id = await self._contents.store(wanted.tenant_id, size, source)
        try:
            with of_living_tenant():
                async with self._database.main.writing(wanted.tenant_id) as session:
                    return await self.adopt(session, wanted, size, blob_id)
        except BaseException:
            await self._contents.discard(blob_id)
            raise

    async def adopt(self, session: AsyncSession, wanted: Wanted, size: int, blob_id: UUID) -> File:
        """Within a transaction of the tenant: make a stored blob a file."""
        file = wanted.row(size)
        session.add(file)
        await session.flush()
        part = FilePart(tenant_id=wanted.tenant_id, file_id=file.id)
        await self._contents.adopt(session, blob_id, part)
        return file

    async def get(
        self,
        tenant_id: UUID,
        file_id: UUID,
        param: str | None = None,
        *,
        maker: str | None = None,
    ) -> File:
        """One file.

        Args:
            param: what named it, if it was not the path.
            maker: the key it must be of; None for any of the tenant.

        Raises:
            NotFoundError: there is no such file.
        """
        query = select(File).where(File.id == file_id, _is_there(), _made_by(maker))
        async with self._database.main.reading(tenant_id) as session:
            file = await session.scalar(query)
        if file is None:
            raise absent(FILE, shown(FILE, file_id), param)
        return file

    async def list(
        self,
        tenant_id: UUID,
        purpose: str | None,
        after: UUID | None,
        limit: int,
        order: Literal["asc", "desc"],
        *,
        maker: str | None = None,
    ) -> Sequence[File]:
        """Files by when they were made, those that follow `after`; of one key, if there is a `maker`."""
        query = select(File).where(_is_there(), _made_by(maker)).limit(limit)
        if purpose is not None:
            query = query.where(File.purpose == purpose)
        if order == "asc":
            query = query.order_by(File.id)
            query = query if after is None else query.where(File.id > after)
        else:
            query = query.order_by(File.id.desc())
            query = query if after is None else query.where(File.id < after)
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    def read(self, file: File) -> AsyncIterator[bytes]:
        """The bytes of a file."""
        return self._contents.read(file.tenant_id, file.id)

    async def delete(self, tenant_id: UUID, file_id: UUID, *, maker: str | None = None) -> None:
        """Remove a file with its bytes; see `get`.

        Raises:
            NotFoundError: there is no such file.
        """
        await self.get(tenant_id, file_id, maker=maker)
        async with self._database.main.writing(tenant_id) as session:
            blobs = await self._remove(session, [file_id])
        await self._contents.erase(blobs)

    async def sweep(self) -> int:
        """Remove files that have expired; how many."""
        swept = 0
        query = select(File.id).where(File.expires_at <= utc_now()).limit(SWEPT_AT_ONCE)
        while True:
            async with self._database.main.reading(EVERY_TENANT) as session:
                late = (await session.scalars(query)).all()
            if not late:
                return swept
            async with self._database.main.writing(EVERY_TENANT) as session:
                blobs = await self._remove(session, late)
            await self._contents.erase(blobs)
            swept += len(late)

    async def _remove(self, session: AsyncSession, file_ids: Sequence[UUID]) -> Sequence[UUID]:
        parts = (
            await session.scalars(select(FilePart).where(FilePart.file_id.in_(file_ids)))
        ).all()
        blobs = await self._contents.release(session, parts)
        await session.execute(delete(File).where(File.id.in_(file_ids)))
        return blobs


def _made_by(maker: str | None) -> ColumnElement[bool]:
    return true() if maker is None else File.created_by == maker


def _is_there() -> ColumnElement[bool]:
    """It has not expired."""
    return or_(File.expires_at.is_(None), File.expires_at > utc_now())


def _plain(filename: str) -> str:
    """A name without folders and control characters; some clients send the whole path."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in name if c.isprintable())
    return kept.encode(errors="replace").decode()[:255] or "upload"
