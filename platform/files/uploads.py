"""Owns uploads of the OpenAI API: parts that come in any order, and become a file when they are put together."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import File, FilePart, FileUpload
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import BadRequestError, ConflictError
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.ids import PART, UPLOAD, absent, read, shown
from loraplex.platform.files.schemas import NewUpload, UploadState
from loraplex.platform.files.service import Wanted
from loraplex.platform.tenants.living import of_living_tenant

LIFETIME = timedelta(hours=1)
MAX_PART = 64 * 1024**2
MAX_OPEN = 32  # uploads of a tenant that wait for parts
MAX_PARTS = 10_000
KEPT = timedelta(days=1)  # rows of uploads that have ended, so that their end can be asked for

PENDING = "pending"


class Seen(NamedTuple):
    """An upload, its state at this moment, and the file it became."""

    upload: FileUpload
    state: UploadState
    file: File | None = None


class FileUploads:
    """Uploads of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents

    async def open(self, actor: Principal, tenant_id: UUID, new: NewUpload) -> Seen:
        """Begin an upload.

        Raises:
            PayloadTooLargeError: the tenant has no room for the whole.
            ConflictError: it has `MAX_OPEN` uploads open.
        """
        wanted = Wanted(tenant_id, actor.actor_id, new.filename, new.purpose)
        now = utc_now()
        upload = FileUpload(
            tenant_id=tenant_id,
            created_at=now,
            created_by=actor.actor_id,
            filename=wanted.row(0).filename,
            purpose=new.purpose,
            mime_type=new.mime_type.replace("\0", ""),
            size=new.bytes,
            lifetime=None if new.expires_after is None else new.expires_after.seconds,
            expires_at=now + LIFETIME,
        )
        with of_living_tenant():
            async with self._database.main.writing(tenant_id) as session:
                # Takes the tenant's lock, too.
                await check_quota(session, tenant_id, new.bytes)
                still = (FileUpload.state == PENDING, FileUpload.expires_at > now)
                count = select(func.count()).select_from(FileUpload).where(*still)
                if (await session.scalar(count) or 0) >= MAX_OPEN:
                    raise ConflictError(
                        f"There are {MAX_OPEN} open uploads; complete or cancel one first.",
                        code="too_many_uploads",
                    )
                session.add(upload)
        return Seen(upload, "pending")

    async def check_open(self, tenant_id: UUID, upload_id: UUID) -> None:
        """See that an upload takes parts, before one is read.

        Raises:
            NotFoundError: the tenant has no such upload.
            ConflictError: it has ended.
        """
        async with self._database.main.reading(tenant_id) as session:
            await _pending(session, upload_id)

    async def add_part(
        self, tenant_id: UUID, upload_id: UUID, size: int, source: AsyncIterator[bytes]
    ) -> FilePart:
        """Keep a part; its place is told at the end.

        Raises:
            NotFoundError: the tenant has no such upload.
            ConflictError: it has ended, or has too many parts.
            PayloadTooLargeError: it is more than the tenant may store.
        """
        blob_id = await self._contents.store(tenant_id, size, source)
        try:
            async with self._database.main.writing(tenant_id) as session:
                await _pending(session, upload_id)
                count = select(func.count()).where(FilePart.upload_id == upload_id)
                if (await session.scalar(count) or 0) >= MAX_PARTS:
                    raise ConflictError(f"The upload has {MAX_PARTS} parts; make them larger.")
                part = FilePart(tenant_id=tenant_id, upload_id=upload_id)
                await self._contents.adopt(session, blob_id, part)
        except BaseException:
            await self._contents.discard(blob_id)
            raise
        return part

    async def complete(
        self,
        actor: Principal,
        tenant_id: UUID,
        upload_id: UUID,
        names: Sequence[str],
        md5: str | None,
    ) -> Seen:
        """Put parts together in this order; others of the upload are gone.

        Raises:
            NotFoundError: the tenant has no such upload, or it no such part.
            ConflictError: it has ended.
            BadRequestError: a part twice, not the bytes that were announced, or not those of the sum.
        """
        if len(set(names)) < len(names):
            raise BadRequestError("part_ids: a part is there twice.", param="part_ids")
        part_ids = [read(PART, name, "part_ids") for name in names]
        async with self._database.main.reading(tenant_id) as session:
            upload = await _pending(session, upload_id)
            parts = await _parts(session, upload_id)
        chosen = _chosen(parts, part_ids)
        size = sum(part.size for part in chosen)
        if size != upload.size:
            raise BadRequestError(
                f"part_ids: the parts have {size} bytes together, and {upload.size} were announced.",
                param="part_ids",
                code="wrong_size",
            )
        if md5 is not None and await self._md5(chosen) != md5.lower():
            raise BadRequestError(
                "md5: the parts, in this order, have another sum; see that they arrived whole.",
                param="md5",
                code="digest_mismatch",
            )
        wanted = Wanted(tenant_id, actor.actor_id, upload.filename, upload.purpose, upload.lifetime)
        async with self._database.main.writing(tenant_id) as session:
            upload = await _pending(session, upload_id)
            file = wanted.row(size)
            session.add(file)
            await session.flush()
            parts = await _parts(session, upload_id)
            for position, part in enumerate(_chosen(parts, part_ids)):
                part.upload_id, part.file_id, part.position = None, file.id, position
            await session.flush()
            left = [part for part in parts if part.file_id is None]
            blobs = await self._contents.release(session, left)
            upload.state, upload.file_id = "completed", file.id
        await self._contents.erase(blobs)
        return Seen(upload, "completed", file)

    async def cancel(self, tenant_id: UUID, upload_id: UUID) -> Seen:
        """Forget the parts of an upload.

        Raises:
            NotFoundError: the tenant has no such upload.
            ConflictError: it has ended.
        """
        async with self._database.main.writing(tenant_id) as session:
            upload = await _pending(session, upload_id)
            blobs = await self._contents.release(session, await _parts(session, upload_id))
            upload.state = "cancelled"
        await self._contents.erase(blobs)
        return Seen(upload, "cancelled")

    async def sweep(self) -> int:
        """Remove the parts of uploads that have expired, and uploads that ended a while ago; how many expired with
        parts."""
        now = utc_now()
        late = select(FilePart).join(FileUpload, FileUpload.id == FilePart.upload_id)
        late = late.where(FileUpload.expires_at <= now)
        old = delete(FileUpload).where(FileUpload.expires_at <= now - KEPT)
        async with self._database.main.reading(EVERY_TENANT) as session:
            parts = (await session.scalars(late)).all()
            stale = FileUpload.expires_at <= now - KEPT
            any_old = await session.scalar(select(FileUpload.id).where(stale).limit(1))
        if not parts and any_old is None:
            return 0
        async with self._database.main.writing(EVERY_TENANT) as session:
            # Asked again: an upload may have been completed meanwhile, and its parts are a file's now.
            parts = (await session.scalars(late.with_for_update(of=FilePart))).all()
            blobs = await self._contents.release(session, parts)
            await session.execute(old)
        await self._contents.erase(blobs)
        return len({part.upload_id for part in parts})

    async def _md5(self, parts: Sequence[FilePart]) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            async for piece in self._contents.read_blob(part.blob_id):
                digest.update(piece)
        return digest.hexdigest()


async def _pending(session: AsyncSession, upload_id: UUID) -> FileUpload:
    """The upload, its row locked: who ends it comes before or after."""
    query = select(FileUpload).where(FileUpload.id == upload_id).with_for_update()
    upload = await session.scalar(query)
    if upload is None:
        raise absent(UPLOAD, shown(UPLOAD, upload_id))
    late = upload.state == PENDING and upload.expires_at <= utc_now()
    state = "expired" if late else upload.state
    if state != PENDING:
        raise ConflictError(f"The upload is {state}; begin another one.", code="upload_ended")
    return upload


async def _parts(session: AsyncSession, upload_id: UUID) -> Sequence[FilePart]:
    query = select(FilePart).where(FilePart.upload_id == upload_id)
    return (await session.scalars(query)).all()


def _chosen(parts: Sequence[FilePart], part_ids: Sequence[UUID]) -> list[FilePart]:
    """The parts of these ids, in this order."""
    known = {part.id: part for part in parts}
    for part_id in part_ids:
        if part_id not in known:
            raise absent(PART, shown(PART, part_id), "part_ids")
    return [known[part_id] for part_id in part_ids]
