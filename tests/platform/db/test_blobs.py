"""Weights as chunk rows: streams in and out, the door for loader threads, and two writers at once."""

import asyncio
import hashlib
import itertools
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from loraplex.adapters.errors import BlobInterruptedError, BlobUnavailableError
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.blobs import BATCH, CHUNK_SIZE, ChunkConflictError, DatabaseBlobs
from loraplex.platform.db.database import Database
from loraplex.platform.db.loader_blobs import LoaderBlobs
from loraplex.platform.db.models import Blob, BlobState, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(blobs: DatabaseBlobs, blob_id: UUID) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(blob_id)])


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, BATCH * CHUNK_SIZE, BATCH * CHUNK_SIZE + 5],
)
async def test_what_goes_in_comes_out(database: Database, size: int) -> None:
    blobs, blob_id, data = DatabaseBlobs(database.weights), uuid4(), os.urandom(size)
    assert await blobs.append(blob_id, pieces(data, 300_001)) == size
    assert await read(blobs, blob_id) == data
    await blobs.delete(blob_id)
    assert (await read(blobs, blob_id), await blobs.length(blob_id)) == (b"", 0)


async def test_deleted_weights_are_overwritten(settings: Settings, database: Database) -> None:
    if not database.is_split:
        pytest.skip("PostgreSQL overwrites nothing before it vacuums")

    # As builds of SQLite behave that overwrite nothing unless told to.
    @event.listens_for(database.weights.engine.sync_engine, "connect", insert=True)
    def forget(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.cursor().execute("PRAGMA secure_delete = OFF")

    async def found() -> bool:
        async with database.weights.connection() as connection:
            await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        files = settings.data_dir.glob("weights.db*")
        return any(data[place : place + 64] in file.read_bytes() for file in files)

    blobs, blob_id, data = DatabaseBlobs(database.weights), uuid4(), os.urandom(2 * CHUNK_SIZE)
    place = CHUNK_SIZE // 2  # in the middle of a chunk, far from any page's header
    await blobs.append(blob_id, pieces(data, CHUNK_SIZE))
    seen = [await found()]
    await blobs.delete(blob_id)
    seen.append(await found())
    assert seen == [True, False]


async def test_appending_in_odd_steps(database: Database) -> None:
    blobs, blob_id = DatabaseBlobs(database.weights), uuid4()
    data = os.urandom(3 * CHUNK_SIZE + 17)
    cuts = [0, 5, 5, CHUNK_SIZE, CHUNK_SIZE + 3, 2 * CHUNK_SIZE + 9, len(data)]
    for first, last in itertools.pairwise(cuts):
        stored = await blobs.append(blob_id, pieces(data[first:last], 100_000), first)
        assert stored == last
    assert await read(blobs, blob_id) == data


async def test_a_broken_stream_keeps_whole_batches(database: Database) -> None:
    blobs, blob_id = DatabaseBlobs(database.weights), uuid4()
    data = os.urandom((BATCH + 2) * CHUNK_SIZE)

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in pieces(data, CHUNK_SIZE):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await blobs.append(blob_id, breaking())
    kept = await blobs.length(blob_id)
    assert kept == BATCH * CHUNK_SIZE
    await blobs.append(blob_id, pieces(data[kept:], CHUNK_SIZE), kept)
    assert await read(blobs, blob_id) == data


@pytest.mark.parametrize("start", [0, 1000])
async def test_of_simultaneous_writers_one_wins(database: Database, start: int) -> None:
    blobs, blob_id = DatabaseBlobs(database.weights), uuid4()
    await blobs.append(blob_id, pieces(b"s" * start, 500))
    contents = [bytes([n]) * (2 * CHUNK_SIZE) for n in range(4)]
    results = await asyncio.gather(
        *(blobs.append(blob_id, pieces(data, 100_000), start) for data in contents),
        return_exceptions=True,
    )
    losers = [result for result in results if isinstance(result, ChunkConflictError)]
    assert len(losers) == 3
    stored = await read(blobs, blob_id)
    assert stored[:start] == b"s" * start
    assert stored[start:] in contents


async def _ready(database: Database, data: bytes, tenant: str) -> Blob:
    owner = Tenant(name=tenant)
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(owner)
        await session.flush()
        blob = Blob(
            tenant_id=owner.id,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            state=BlobState.READY,
        )
        session.add(blob)
    await DatabaseBlobs(database.weights).append(blob.id, pieces(data, CHUNK_SIZE))
    return blob


async def test_loader_threads_read_by_digest(settings: Settings, database: Database) -> None:
    data = os.urandom((BATCH + 1) * CHUNK_SIZE + 3)
    blob = await _ready(database, data, "acme")
    await _ready(database, data, "globex")
    loader = LoaderBlobs.open(settings)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(b"".join(loader.read(blob.sha256))))
        for _ in range(4)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert found == [data] * 4
        assert loader.size(blob.sha256) == len(data)
        with pytest.raises(BlobUnavailableError, match="not stored any more"):
            loader.size("0" * 64)
        with pytest.raises(BlobUnavailableError, match="not stored any more"):
            next(loader.read("0" * 64))
    finally:
        loader.close()


async def test_loaders_see_ready_blobs_only_and_notice_missing_bytes(
    settings: Settings, database: Database
) -> None:
    data = os.urandom(2 * CHUNK_SIZE)
    blob = await _ready(database, data, "acme")
    loader = LoaderBlobs.open(settings)
    try:
        await DatabaseBlobs(database.weights).delete(blob.id)
        with pytest.raises(BlobUnavailableError, match="end after 0 of"):
            list(loader.read(blob.sha256))
        async with database.main.writing(EVERY_TENANT) as session:
            await session.execute(update(Blob).values(state=BlobState.UPLOADING))
        with pytest.raises(BlobUnavailableError, match="not stored any more"):
            list(loader.read(blob.sha256))
    finally:
        loader.close()


def test_a_database_that_does_not_answer_may_be_asked_again(tmp_path: Path) -> None:
    nobody = "postgresql://nobody@127.0.0.1:9/none"
    loader = LoaderBlobs.open(Settings(data_dir=tmp_path, database_url=nobody))
    try:
        with pytest.raises(BlobInterruptedError, match="try again"):
            list(loader.read("0" * 64))
        with pytest.raises(BlobInterruptedError, match="try again"):
            loader.size("0" * 64)
    finally:
        loader.close()


async def test_a_failed_store_leaves_nothing(database: Database) -> None:
    tenant = Tenant(name="acme")
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(tenant)

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * ((BATCH + 1) * CHUNK_SIZE)
        raise ConnectionError

    weights = Weights(database)
    with pytest.raises(ConnectionError):
        await weights.store(tenant.id, "0" * 64, 10**9, failing())
    assert await weights.chunks.ids() == set()
    async with database.main.reading(EVERY_TENANT) as session:
        assert await session.get(Blob, uuid4()) is None


async def test_a_tenant_has_each_ready_content_once(database: Database) -> None:
    blob = await _ready(database, b"data", "acme")
    async with database.main.reading(EVERY_TENANT) as session:
        copy = Blob(tenant_id=blob.tenant_id, sha256=blob.sha256, size=4, state=BlobState.READY)
        session.add(copy)
        with pytest.raises(IntegrityError):
            await session.flush()


async def test_writers_that_read_first_never_meet(database: Database) -> None:
    """On SQLite a deferred transaction would raise SQLITE_BUSY here at once."""
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(Tenant(name="0", created_at=utc_now()))

    async def increment() -> None:
        async with database.main.writing(EVERY_TENANT) as session:
            tenant = (await session.scalars(select(Tenant).with_for_update())).one()
            await asyncio.sleep(0.002)
            tenant.name = str(int(tenant.name) + 1)

    await asyncio.gather(*(increment() for _ in range(20)))
    async with database.main.reading(EVERY_TENANT) as session:
        assert (await session.scalars(select(Tenant.name))).one() == "20"
