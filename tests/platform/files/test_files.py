"""Files and uploads, by the OpenAI client: what is kept, shown, expired and refused."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import httpx
import openai
import pytest
from sqlalchemy import func, select, update

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import (
    Batch,
    BatchResult,
    Blob,
    BlobChunk,
    File,
    FilePart,
    FileUpload,
    Tenant,
)
from loraplex.platform.db.models.responses import StoredResponse
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import NotFoundError
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.owner import owner_of
from loraplex.platform.files.schemas import NewUpload
from loraplex.platform.files.service import Files, Wanted
from loraplex.platform.files.uploads import FileUploads
from support.openai_client import client_of
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)
PIECE = 1024 * 1024


async def stored(api: Api) -> tuple[int, int, int]:
    """See `contents_of`."""
    return await contents_of(api.database)


async def contents_of(database: Database) -> tuple[int, int, int]:
    """How many parts, blobs and chunk rows there are."""
    async with database.main.reading(EVERY_TENANT) as session:
        parts = await session.scalar(select(func.count()).select_from(FilePart))
        blobs = await session.scalar(select(func.count()).select_from(Blob))
    async with database.weights.reading(EVERY_TENANT) as session:
        chunks = await session.scalar(select(func.count()).select_from(BlobChunk))
    return parts or 0, blobs or 0, chunks or 0


async def test_a_file_from_the_cradle_to_the_grave(api: Api) -> None:
    key = await api.tenant("acme")
    content = bytes(range(256)) * 4096 * 3 + b"end"
    async with client_of(api.client, key) as client:
        made = await client.files.create(
            file=("../data/names\n.jsonl", content),
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (made.filename, made.bytes, made.status) == (
            "names.jsonl",
            len(content),
            "processed",
        )
        assert made.expires_at == made.created_at + 3600
        batch = await client.files.create(file=b"{}", purpose="batch")
        assert batch.expires_at == batch.created_at + 30 * 24 * 3600
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == content
        kept = await client.files.create(file=b"x", purpose="assistants")
        assert kept.expires_at is None
        ids = [made.id, batch.id, kept.id]
        assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in client.files.list(limit=1, order="asc")] == ids
        page = await client.files.list(purpose="batch")
        assert ([file.id for file in page.data], page.has_more) == ([batch.id], False)
        for name in ids:
            assert (await client.files.delete(name)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.files.content(name)
        with pytest.raises(openai.NotFoundError):
            await client.files.delete(made.id)
    assert await stored(api) == (0, 0, 0)


@sqlite_only
async def test_files_expire(api: Api) -> None:
    key = await api.tenant("acme")
    async with client_of(api.client, key) as client:
        for _ in range(2):
            made = await client.files.create(file=b"abc", purpose="batch")
        upload = await client.uploads.create(
            filename="x", purpose="batch", bytes=5, mime_type="text/plain"
        )
        await client.uploads.parts.create(upload.id, data=b"abc")
        past = utc_now() - timedelta(seconds=1)
        async with api.database.main.writing(EVERY_TENANT) as session:
            await session.execute(update(File).values(expires_at=past))
            await session.execute(update(FileUpload).values(expires_at=past))
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)
        assert (await client.files.list()).data == []
        with pytest.raises(openai.ConflictError, match="expired"):
            await client.uploads.complete(upload.id, part_ids=["part_x"])
    gone = (await api.client.post("/api/v1/gc", headers=OPS)).json()
    assert (gone["expired_files"], gone["expired_file_uploads"]) == (2, 1)
    assert await stored(api) == (0, 0, 0)


async def test_parts_become_a_file_in_the_order_that_is_told(api: Api) -> None:
    key = await api.tenant("acme")
    pieces = [bytes([n]) * (PIECE + n) for n in range(4)]
    whole = b"".join(pieces[:3])
    async with client_of(api.client, key) as client:
        upload = await client.uploads.create(
            filename="big.jsonl",
            purpose="fine-tune",
            bytes=len(whole),
            mime_type="text/jsonl",
            extra_body={"expires_after": {"anchor": "created_at", "seconds": 7200}},
        )
        assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
        parts = await asyncio.gather(
            *(client.uploads.parts.create(upload.id, data=piece) for piece in pieces)
        )
        names = [part.id for part in parts]
        with pytest.raises(openai.BadRequestError, match="announced"):
            await client.uploads.complete(upload.id, part_ids=names)
        with pytest.raises(openai.BadRequestError, match="another sum"):
            await client.uploads.complete(upload.id, part_ids=names[:3], md5="0" * 32)
        with pytest.raises(openai.BadRequestError, match="twice"):
            await client.uploads.complete(upload.id, part_ids=[names[0]] * 3)
        md5 = hashlib.md5(whole, usedforsecurity=False).hexdigest()
        done = await client.uploads.complete(upload.id, part_ids=names[:3], md5=md5)
        assert done.status == "completed"
        assert done.file is not None
        assert done.file.expires_at == done.file.created_at + 7200
        assert (await client.files.content(done.file.id)).content == whole
        assert (await stored(api))[:2] == (3, 3)  # the fourth part is gone
        for again in (
            client.uploads.complete(upload.id, part_ids=names[:3]),
            client.uploads.cancel(upload.id),
            client.uploads.parts.create(upload.id, data=b"x"),
        ):
            with pytest.raises(openai.ConflictError, match="completed"):
                await again
        await client.files.delete(done.file.id)
    assert await stored(api) == (0, 0, 0)


@sqlite_only
async def test_an_upload_is_cancelled_with_its_parts(api: Api) -> None:
    key = await api.tenant("acme")
    async with client_of(api.client, key) as client:
        upload = await client.uploads.create(
            filename="x", purpose="batch", bytes=5, mime_type="text/plain"
        )
        await client.uploads.parts.create(upload.id, data=b"abc")
        assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    assert await stored(api) == (0, 0, 0)


@sqlite_only
async def test_what_is_stored_counts_and_goes_with_the_tenant(api: Api) -> None:
    key = await api.tenant("acme", "inference", "adapters")
    change = {"storage_limit": 100}
    await api.client.patch("/api/v1/tenants/acme", json=change, headers=OPS)
    async with client_of(api.client, key) as client:
        await client.files.create(file=b"x" * 60, purpose="user_data")
        with pytest.raises(openai.APIStatusError, match="do not fit") as refused:
            await client.files.create(file=b"x" * 41, purpose="user_data")
        assert refused.value.status_code == 413
        with pytest.raises(openai.APIStatusError, match="do not fit"):
            await client.uploads.create(
                filename="x", purpose="batch", bytes=41, mime_type="text/plain"
            )
        upload = await client.uploads.create(
            filename="x", purpose="batch", bytes=40, mime_type="text/plain"
        )
        await client.uploads.parts.create(upload.id, data=b"y" * 40)
        with pytest.raises(openai.APIStatusError, match="do not fit"):
            await client.uploads.parts.create(upload.id, data=b"y")
    shown = (await api.client.get("/api/v1/storage", headers=bearer(key))).json()
    assert shown == {"used": 100, "limit": 100, "files": 2}
    assert api.spooled() == []
    gone = await api.client.delete("/api/v1/tenants/acme?confirm=acme", headers=OPS)
    assert gone.status_code == 204
    assert await stored(api) == (0, 0, 0)


@sqlite_only
async def test_what_is_refused(api: Api) -> None:
    key = bearer(await api.tenant("acme"))
    files = {"file": ("a", b"abc")}

    async def send(data: dict[str, str], parts: dict[str, tuple[str, bytes]]) -> httpx.Response:
        return await api.client.post("/v1/files", headers=key, data=data, files=parts)

    good = {"purpose": "batch"}
    cases = [
        (await send({}, files), "purpose"),
        (await send({"purpose": "batch_output"}, files), "purpose"),
        (await send(good, {"file": ("a", b"")}), "file"),
        (await send({**good, "expires_after[seconds]": "3600"}, files), "expires_after"),
        (
            await send(
                {**good, "expires_after[anchor]": "created_at", "expires_after[seconds]": "9"},
                files,
            ),
            "expires_after",
        ),
        (await send({**good, "colour": "red"}, files), None),
        (await api.client.post("/v1/files", headers=key, data=good), None),
        (await api.client.get("/v1/files?after=file-x", headers=key), "after"),
        (await api.client.get("/v1/files?limit=0", headers=key), "limit"),
        (await api.client.get("/v1/files?order=up", headers=key), "order"),
    ]
    for answer, param in cases:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert api.spooled() == []
    assert await stored(api) == (0, 0, 0)


@sqlite_only
async def test_a_confined_key_sees_what_it_made_itself(api: Api) -> None:
    whole = await api.tenant("acme")
    made = await api.client.post("/api/v1/tenants/acme/keys", json={"adapters": ["a"]}, headers=OPS)
    batch = {"endpoint": "/v1/completions", "completion_window": "24h"}
    async with (
        client_of(api.client, whole) as client,
        client_of(api.client, made.json()["key"]) as confined,
    ):
        theirs = await client.files.create(file=b"{}", purpose="batch")
        own = await confined.files.create(file=b"{}", purpose="batch")
        assert [file.id async for file in confined.files.list()] == [own.id]
        assert {file.id async for file in client.files.list()} == {own.id, theirs.id}
        begun = await client.batches.create(input_file_id=theirs.id, **batch)  # type: ignore[arg-type]  # literals
        assert (await confined.batches.list()).data == []
        for refused in (
            confined.files.retrieve(theirs.id),
            confined.files.content(theirs.id),
            confined.files.delete(theirs.id),
            confined.batches.create(input_file_id=theirs.id, **batch),  # type: ignore[arg-type]  # literals
            confined.batches.retrieve(begun.id),
            confined.batches.cancel(begun.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await refused
        assert (await client.batches.retrieve(begun.id)).id == begun.id
        assert (await client.files.content(theirs.id)).content == b"{}"


async def test_a_tenant_that_is_deleted_meanwhile_is_told_so(database: Database) -> None:
    contents = Contents(database, Weights(database))
    nobody = Principal(actor_id="k", tenant_id=uuid4(), tenant_name="acme")
    owner = owner_of(nobody)
    new = NewUpload("x", "batch", 3, "text/plain")

    async def three() -> AsyncIterator[bytes]:
        yield b"abc"

    with pytest.raises(NotFoundError, match="deleted"):
        await Files(database, contents).create(Wanted(owner, "k", "x", "batch"), 3, three())
    with pytest.raises(NotFoundError, match="deleted"):
        await FileUploads(database, contents).open(nobody, owner, new)
    assert await contents_of(database) == (0, 0, 0)


async def test_nothing_of_a_deleted_tenant_stays(api: Api) -> None:
    key = await api.tenant("acme")
    other = await api.tenant("globex")
    async with client_of(api.client, key) as client, client_of(api.client, other) as theirs:
        kept = await theirs.files.create(file=b"theirs", purpose="user_data")
        made = await client.files.create(file=b"{}", purpose="batch")
        upload = await client.uploads.create(
            filename="x", purpose="batch", bytes=9, mime_type="text/plain"
        )
        await client.uploads.parts.create(upload.id, data=b"abc")
        async with api.database.main.writing(EVERY_TENANT) as session:
            tenant = await session.scalar(select(Tenant.id).where(Tenant.name == "acme"))
            assert tenant is not None
            now = utc_now()
            row = {"tenant_id": tenant, "expires_at": now + timedelta(days=1)}
            batch = Batch(key_id="k", input_file_id=tenant, endpoint="/v1/completions", **row)
            session.add(batch)
            await session.flush()
            session.add(BatchResult(batch_id=batch.id, line=1, tenant_id=tenant, ok=True, body=b""))
            session.add(
                StoredResponse(
                    response_id="resp_1",
                    subject="tiny",
                    input=b"[]",
                    response=b"{}",
                    chain=[],
                    size=4,
                    **row,
                )
            )
        used = await api.client.get("/api/v1/storage?tenant=acme", headers=OPS)
        assert (used.json()["used"], used.json()["files"]) == (5, 2)
        gone = await api.client.delete("/api/v1/tenants/acme?confirm=acme", headers=OPS)
        assert gone.status_code == 204, gone.text
        with pytest.raises(openai.AuthenticationError):
            await client.files.retrieve(made.id)
        assert (await theirs.files.content(kept.id)).content == b"theirs"
    assert await stored(api) == (1, 1, 1)
    async with api.database.main.reading(EVERY_TENANT) as session:
        for table in (FileUpload, Batch, BatchResult, StoredResponse):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
        assert await session.scalar(select(func.count()).select_from(File)) == 1
