"""The migrations of files, batches and responses go down and up again with rows in their tables, and leave nothing."""

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import insert, text

from loraplex.platform.db import migrate
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import (
    Batch,
    BatchResult,
    Blob,
    BlobState,
    File,
    FilePart,
    FileUpload,
    Job,
    Tenant,
)
from loraplex.platform.db.models.responses import StoredResponse
from loraplex.platform.settings import Settings
from support.migrating import migrate_to


async def _fill(database: Database) -> None:
    """One row in every table, and two blobs: of weights, and of a file."""
    now, tenant, weights, blob, file, batch = datetime.now(UTC), *(uuid4() for _ in range(5))
    row = {"created_at": now, "tenant_id": tenant}
    named = {**row, "filename": "x", "purpose": "batch", "size": 1, "created_by": "k"}
    async with database.main.transaction() as connection:
        for table, values in (
            (Tenant, {"id": tenant, "created_at": now, "name": "acme"}),
            (Blob, {**row, "id": weights, "sha256": "a", "size": 1, "state": BlobState.READY}),
            (Blob, {**row, "id": blob, "sha256": "", "size": 1, "state": BlobState.FILE}),
            (File, {**named, "id": file}),
            (FileUpload, {**named, "mime_type": "x", "expires_at": now, "file_id": file}),
            (FilePart, {**row, "blob_id": blob, "size": 1, "file_id": file}),
            (
                Batch,
                {
                    **row,
                    "id": batch,
                    "key_id": "k",
                    "input_file_id": file,
                    "endpoint": "/v1/completions",
                    "expires_at": now,
                },
            ),
            (
                BatchResult,
                {"batch_id": batch, "line": 1, "tenant_id": tenant, "ok": True, "body": b""},
            ),
            (
                StoredResponse,
                {
                    **row,
                    "response_id": "resp_1",
                    "subject": "m",
                    "input": b"[]",
                    "response": b"{}",
                    "chain": [],
                    "size": 4,
                    "expires_at": now,
                },
            ),
            (Job, {**row, "kind": "batch", "request": {}, "created_by": "k"}),
        ):
            await connection.execute(insert(table).values(values))


async def test_down_and_up_with_rows(settings: Settings) -> None:
    database = open_database(settings)
    try:
        await migrate.upgrade(database)
        await _fill(database)
        target = "core@0003_platform" if database.is_split else "0003_platform"
        await migrate_to(database, target, up=False)
        async with database.main.connection() as connection:
            left = (await connection.execute(text("SELECT sha256 FROM blob"))).scalars().all()
            jobs = await connection.scalar(text("SELECT count(*) FROM job"))
            names = (await connection.execute(text("SELECT name FROM tenant"))).scalars().all()
            if not database.is_split:
                known = "SELECT count(*) FROM pg_policies WHERE tablename = 'stored_response'"
                assert await connection.scalar(text(known)) == 0
        assert (left, jobs, names) == (["a"], 0, ["acme"])
        await migrate.upgrade(database)
        assert await migrate.is_current(database)
        async with database.main.connection() as connection:
            for table in (File, FilePart, FileUpload, Batch, BatchResult, StoredResponse):
                name = table.__tablename__
                assert await connection.scalar(text(f'SELECT count(*) FROM "{name}"')) == 0
    finally:
        await database.close()
