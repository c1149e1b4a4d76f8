"""Owns resumable uploads: opened with what is to come, filled by any number of requests, completed
once. How far one got is read from its chunk rows, never from a counter that could be wrong."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.upload import UploadInspector
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.defaults import Defaults
from loraplex.platform.catalog.golden import stored_golden
from loraplex.platform.catalog.intake import Intake, Intent, check_parent, rejection
from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.catalog.rows import no_adapter
from loraplex.platform.catalog.weights import Weights, ready_blob
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.blobs import ChunkConflictError
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, Blob, Upload
from loraplex.platform.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    UnprocessableError,
)

LIFETIME = timedelta(hours=24)
MAX_OPEN = 32  # per tenant
MAX_WEIGHTS = 16 * 1024**3
_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<total>[0-9]{1,18}|\*)")


class Uploads:
    """Uploads of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, intake: Intake, weights: Weights) -> None:
        self._database = database
        self._intake = intake
        self._weights = weights

    async def open(self, actor: Principal, intent: Intent, size: int, sha256: str) -> Upload:
        """Begin an upload of `size` bytes.

        Raises:
            NotFoundError: the key may not see an adapter of this name.
            BadRequestError: the adapter never had a version with the number of the parent.
            PayloadTooLargeError: `size` is above `MAX_WEIGHTS`, or more than the tenant may store.
            ConflictError: the tenant has `MAX_OPEN` uploads open.
        """
        if not actor.may_see(intent.name):
            raise no_adapter(intent.name)
        if size > MAX_WEIGHTS:
            raise PayloadTooLargeError(
                f"size: at most {MAX_WEIGHTS // 1024**3} GiB are allowed.", param="size"
            )
        blob = Blob(tenant_id=intent.tenant_id, sha256=sha256, size=size)
        upload = Upload(
            tenant_id=intent.tenant_id,
            blob=blob,
            adapter_name=intent.name,
            base_model=intent.base.name,
            alias=intent.alias,
            config=intent.config,
            chat_template=intent.chat_template,
            options=_options(intent),
            expires_at=utc_now() + LIFETIME,
        )
        async with self._database.main.writing(intent.tenant_id) as session:
            last = select(Adapter.last_version).where(Adapter.name == intent.name)
            check_parent(intent.name, intent.parent, await session.scalar(last) or 0)
            # Equal contents are stored once, so they need no room.
            known = await session.scalar(ready_blob(intent.tenant_id, sha256, size))
            await check_quota(session, intent.tenant_id, size if known is None else 0)
            # Under the tenant's lock, which the check above took.
            count = select(func.count()).where(Upload.tenant_id == intent.tenant_id)
            if (await session.scalar(count) or 0) >= MAX_OPEN:
                raise ConflictError(
                    f"There are {MAX_OPEN} open uploads; complete or cancel one first.",
                    code="too_many_uploads",
                )
            session.add(upload)
        return upload

    async def get(self, viewer: Principal, tenant_id: UUID, upload_id: UUID) -> tuple[Upload, int]:
        """An upload and how many of its bytes are stored.

        Raises:
            NotFoundError: the tenant has no such upload, or the key may not see its adapter.
        """
        query = (
            select(Upload)
            .where(
                Upload.id == upload_id,
                Upload.tenant_id == tenant_id,
                Upload.expires_at > utc_now(),
            )
            .options(joinedload(Upload.blob))
        )
        async with self._database.main.reading(tenant_id) as session:
            upload = await session.scalar(query)
        if upload is None or not viewer.may_see(upload.adapter_name):
            raise NotFoundError("There is no such upload; it may have been completed or expired.")
        return upload, await self._weights.chunks.length(upload.blob_id)

    async def append(
        self,
        actor: Principal,
        tenant_id: UUID,
        upload_id: UUID,
        offset: int,
        body: AsyncIterator[bytes],
    ) -> tuple[Upload, int]:
        """Store bytes that begin at `offset`. The header is judged as soon as it has arrived.

        Returns:
            The upload and how many of its bytes are stored now.
        Raises:
            NotFoundError: the tenant has no such upload.
            ConflictError: `offset` is not where the stored bytes end, or another request is writing.
            PayloadTooLargeError: more bytes than were announced.
            UnprocessableError: the header is refused; the upload is gone.
        """
        upload, received = await self.get(actor, tenant_id, upload_id)
        if offset != received:
            raise ConflictError(
                f"{received} bytes are stored; continue there.", code="wrong_offset"
            )
        body = _at_most(body, upload.blob.size - received)
        if offset == 0:
            body = _judged(body, self._intent(upload).inspector(upload.blob.size))
        try:
            stored = await self._weights.chunks.append(upload.blob_id, body, offset)
        except ChunkConflictError as error:
            raise ConflictError("Another request is writing this upload; try later.") from error
        except UnprocessableError:
            await self._weights.discard(upload.blob_id)
            raise
        return upload, stored

    async def complete(self, actor: Principal, tenant_id: UUID, upload_id: UUID) -> tuple[str, int]:
        """Judge the stored bytes and make them a version; a refused upload is gone with all it stored.

        Returns:
            Adapter name and version number.
        Raises:
            NotFoundError: the tenant has no such upload.
            ConflictError: bytes are missing.
            UnprocessableError: the adapter is refused, or the bytes are not those announced.
        """
        upload, received = await self.get(actor, tenant_id, upload_id)
        blob = upload.blob
        if received != blob.size:
            raise ConflictError(
                f"{received} of {blob.size} bytes are stored; send the rest first.",
                code="incomplete_upload",
            )
        intent = self._intent(upload)
        try:
            source = self._weights.chunks.read(blob.id)
            report = await self._intake.inspect(intent, source, blob.size)
            if report.weights_sha256 != blob.sha256:
                raise UnprocessableError(
                    f"The stored bytes have the SHA-256 {report.weights_sha256}, not the one "
                    "announced; upload again.",
                    code="digest_mismatch",
                    param="sha256",
                )
        except UnprocessableError:
            await self._weights.discard(blob.id)
            raise

        async def end(session: AsyncSession, _: int) -> None:
            # Of two that complete the same upload the second finds nothing to delete.
            ended = delete(Upload).where(Upload.id == upload.id).returning(Upload.id)
            if await session.scalar(ended) is None:
                raise ConflictError("This upload was completed or cancelled already.")

        n = await self._intake.publish(actor, intent, report, blob.id, end)
        return upload.adapter_name, n

    async def cancel(self, actor: Principal, tenant_id: UUID, upload_id: UUID) -> None:
        """Forget an upload and what it stored.

        Raises:
            NotFoundError: the tenant has no such upload.
        """
        upload, _ = await self.get(actor, tenant_id, upload_id)
        await self._weights.discard(upload.blob_id)

    def _intent(self, upload: Upload) -> Intent:
        options = upload.options or {}
        return self._intake.intent(
            upload.tenant_id,
            name=upload.adapter_name,
            config=upload.config,
            base=upload.base_model,
            alias=upload.alias,
            chat_template=upload.chat_template,
            source={"kind": "upload"},
            parent=msgspec.convert(options.get("parent"), int | None),
            defaults=msgspec.convert(options.get("defaults"), Defaults | None),
            golden=stored_golden(options.get("golden")),
        )


def _options(intent: Intent) -> dict[str, object] | None:
    """What an upload keeps for its version beside name, config and template."""
    given = {"parent": intent.parent, "defaults": intent.defaults, "golden": intent.golden or None}
    kept = {name: msgspec.to_builtins(value) for name, value in given.items() if value is not None}
    return kept or None


async def _at_most(body: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    async for piece in body:
        limit -= len(piece)
        if limit < 0:
            raise PayloadTooLargeError("The body is longer than the size announced for the upload.")
        yield piece


async def _judged(body: AsyncIterator[bytes], inspector: UploadInspector) -> AsyncIterator[bytes]:
    """Pass the bytes on, refusing them at the header: a wrong adapter is not worth its upload."""
    async for piece in body:
        if inspector.report is None:
            try:
                await asyncio.to_thread(inspector.feed, piece)
            except AdapterRejected as error:
                raise rejection(error) from error
        yield piece


def parse_content_range(value: str | None, size: int) -> int:
    """First byte of `Content-Range: bytes FIRST-LAST/SIZE`; 0 without one.

    Raises:
        BadRequestError: another form, or another size than announced.
    """
    if value is None:
        return 0
    match = _RANGE.fullmatch(value.strip())
    if match is None or int(match["last"]) < int(match["first"]):
        raise BadRequestError(
            "Content-Range: write 'bytes FIRST-LAST/SIZE'.", param="content-range"
        )
    if match["total"] not in ("*", str(size)):
        raise BadRequestError(
            f"Content-Range: the size announced for this upload is {size}.", param="content-range"
        )
    return int(match["first"])
