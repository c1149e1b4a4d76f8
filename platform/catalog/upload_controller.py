"""Owns the routes of resumable uploads."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.content_digest import Part, parse_content_digest
from loraplex.platform.catalog.defaults import read_defaults
from loraplex.platform.catalog.golden import read_golden
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.operations import OpenUploadOperation, SendUploadOperation
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.catalog.schemas import UploadCreate, UploadOut, VersionOut
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.catalog.uploads import MAX_WEIGHTS, Uploads, parse_content_range
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import NULL
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings


class UploadController(Controller):
    """Adapters of any size, over connections that may break."""

    path = "/api/v1/uploads"
    tags = ("uploads",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @post(operation_id="OpenUpload", operation_class=OpenUploadOperation)
    async def open(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        principal: NamedDependency[Principal],
        intake: NamedDependency[Intake],
        uploads: NamedDependency[Uploads],
    ) -> UploadOut:
        """Announce an adapter. Its config is judged at once."""
        # Litestar would decode the config on the way, and lose what is wrong with it.
        data = decode_body(await request.body(), UploadCreate)
        config = bytes(data.config)
        if config.startswith(b'"'):
            config = _text(config)
        intent = intake.intent(
            owner,
            name=data.name,
            config=config,
            base=data.base,
            alias=data.alias,
            chat_template=data.chat_template,
            parent=data.parent,
            defaults=None if data.defaults == NULL else read_defaults(bytes(data.defaults)),
            golden=() if data.golden == NULL else read_golden(bytes(data.golden)),
        )
        return UploadOut.of(await uploads.open(principal, intent, data.size, data.sha256), 0)

    @get("/{upload_id:uuid}", operation_id="GetUpload")
    async def get_upload(
        self,
        owner: NamedDependency[UUID],
        upload_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> UploadOut:
        """How far an upload got."""
        return UploadOut.of(*await uploads.get(principal, owner, upload_id))

    @put(
        "/{upload_id:uuid}",
        operation_id="SendUpload",
        operation_class=SendUploadOperation,
        request_max_body_size=MAX_WEIGHTS,
    )
    async def send(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        upload_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        settings: NamedDependency[Settings],
        uploads: NamedDependency[Uploads],
    ) -> UploadOut:
        """Send bytes: the raw body, with `Content-Range: bytes FIRST-LAST/SIZE` unless it begins at 0. After a broken
        connection ask how far it got and continue there. With `Content-Digest: sha-256=:...:` nothing is stored of
        a part that arrives damaged."""
        upload, _ = await uploads.get(principal, owner, upload_id)
        offset = parse_content_range(request.headers.get("content-range"), upload.blob.size)
        part = Part(
            digest=parse_content_digest(request.headers.get("content-digest")),
            limit=upload.blob.size - offset,
            folder=settings.data_dir / "spool",
        )
        async with part.verified(request.stream()) as body:
            stored = await uploads.append(principal, owner, upload_id, offset, body)
        return UploadOut.of(*stored)

    @post("/{upload_id:uuid}/complete", operation_id="CompleteUpload")
    async def complete(
        self,
        owner: NamedDependency[UUID],
        upload_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
        catalog: NamedDependency[CatalogService],
    ) -> VersionOut:
        """Judge what was sent; the answer is the new version, ready to be used."""
        name, n = await uploads.complete(principal, owner, upload_id)
        return VersionOut.of(name, *await catalog.get_version(principal, owner, name, n))

    @delete("/{upload_id:uuid}", operation_id="CancelUpload")
    async def cancel(
        self,
        owner: NamedDependency[UUID],
        upload_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> None:
        """Forget an upload and what was sent."""
        await uploads.cancel(principal, owner, upload_id)


def _text(config: bytes) -> bytes:
    try:
        return msgspec.json.decode(config, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        raise BadRequestError(
            "config: this is not valid JSON text.", param="config", code="invalid_value"
        ) from None
