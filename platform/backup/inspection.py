"""Owns proving that a database is whole: everything it promises to serve is there, byte for byte."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.blobs import DatabaseBlobs
from loraplex.platform.db.database import Database
from loraplex.platform.db.migrate import is_current
from loraplex.platform.db.models import (
    Adapter,
    AdapterVersion,
    Blob,
    BlobState,
    File,
    FilePart,
    Tenant,
)
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.files.ids import FILE, shown


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it should be; `what` names it, `why` is a sentence."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What an inspection found."""

    versions: int
    files: int
    blobs: int
    bytes: int
    faults: list[Fault]


async def inspect(database: Database) -> Finding:
    """Read every stored weights file and compare it with its digest, and every other file and compare it with its
    size.

    Raises:
        SQLAlchemyError: the database cannot be read.
    """
    if not await is_current(database):
        fault = Fault("schema", "It is not that of this release; run loraplex db upgrade.")
        return Finding(0, 0, 0, 0, [fault])
    async with database.main.reading(EVERY_TENANT) as session:
        kept = Blob.state.in_((BlobState.READY, BlobState.FILE))
        blobs = (await session.scalars(select(Blob).where(kept))).all()
        query = (
            select(AdapterVersion.blob_id, Tenant.name, Adapter.name, AdapterVersion.n)
            .join(Adapter, Adapter.id == AdapterVersion.adapter_id)
            .join(Tenant, Tenant.id == Adapter.tenant_id)
        )
        versions = (await session.execute(query)).all()
        parts = select(FilePart.blob_id, Tenant.name, File.id)
        parts = parts.join(File, File.id == FilePart.file_id)
        pieces = (await session.execute(parts.join(Tenant, Tenant.id == File.tenant_id))).all()
    chunks = DatabaseBlobs(database.weights)
    faults: dict[object, Fault] = {}
    for blob in blobs:
        size, digest = await _digest(chunks.read(blob.id))
        wanted = blob.sha256 if blob.state == BlobState.READY else digest  # files have none
        if (size, digest) != (blob.size, wanted) and await _kept(database, blob.id):
            reason = f"{size} of {blob.size} bytes" if size != blob.size else "other bytes"
            faults[blob.id] = Fault(f"blob {blob.id}", f"Stored are {reason}; push it again.")
    ready = {blob.id for blob in blobs}
    found = list(faults.values())
    for blob_id, tenant, adapter, n in versions:
        if blob_id in faults or blob_id not in ready:
            found.append(Fault(f"{tenant}/{adapter}@{n}", "Its weights are not whole."))
    for blob_id, tenant, file_id in pieces:
        if blob_id in faults or blob_id not in ready:
            found.append(
                Fault(f"{tenant}/{shown(FILE, file_id)}", "It is not whole; send it again.")
            )
    files = len({file_id for _, _, file_id in pieces})
    return Finding(len(versions), files, len(blobs), sum(blob.size for blob in blobs), found)


async def _kept(database: Database, blob_id: UUID) -> bool:
    """Whether it was not deleted while it was read."""
    async with database.main.reading(EVERY_TENANT) as session:
        return await session.get(Blob, blob_id) is not None


async def _digest(pieces: AsyncIterator[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
