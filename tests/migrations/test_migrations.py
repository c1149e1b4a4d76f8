"""Migrations go up and down on both databases, and arrive at the schema the models describe."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

from loraplex.platform.db import migrate
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import BlobChunk, Tenant
from loraplex.platform.settings import Settings

MAIN, WEIGHTS = Tenant.metadata, BlobChunk.metadata


@pytest.fixture
async def database(settings: Settings) -> AsyncGenerator[Database]:
    database = open_database(settings)
    yield database
    await database.close()


async def tables(database: Database) -> set[str]:
    found: set[str] = set()
    for store in (database.main, database.weights):
        async with store.connection() as connection:
            found |= set(await connection.run_sync(lambda c: inspect(c).get_table_names()))
    return found - {"alembic_version"}


async def test_up_and_down_and_up(database: Database) -> None:
    assert not await migrate.is_current(database)
    await migrate.upgrade(database)
    assert await migrate.is_current(database)
    assert await tables(database) == {*MAIN.tables, *WEIGHTS.tables}
    await migrate.upgrade(database)
    await migrate.downgrade(database)
    assert not await migrate.is_current(database)
    assert await tables(database) == set()
    await migrate.upgrade(database)
    assert await migrate.is_current(database)


async def test_two_that_start_together(settings: Settings, database: Database) -> None:
    async def prepare() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "loraplex.platform.prepare", stdin=PIPE, stdout=DEVNULL
        )
        await process.communicate(settings.to_json().encode())
        return process.returncode or 0

    assert list(await asyncio.gather(prepare(), prepare())) == [0, 0]
    assert await migrate.is_current(database)


async def test_the_migrated_schema_is_the_models(database: Database) -> None:
    await migrate.upgrade(database)
    both = MetaData()
    for metadata in (MAIN, WEIGHTS):
        for table in metadata.tables.values():
            table.to_metadata(both)
    if database.is_split:
        assert await differences(database.main.connection, MAIN) == []
        assert await differences(database.weights.connection, WEIGHTS) == []
    else:
        assert await differences(database.main.connection, both) == []


async def differences(connect: Any, metadata: MetaData) -> list[Any]:
    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with connect() as connection:
        return list(await connection.run_sync(compare))


async def test_weights_have_their_own_file_on_sqlite_only(
    settings: Settings, database: Database
) -> None:
    await migrate.upgrade(database)
    async with database.main.connection() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    assert ("blob_chunk" in names) is bool(settings.database_url)
    if not settings.database_url:
        files = {f.name for f in settings.data_dir.iterdir()}
        assert {"loraplex.db", "weights.db"} <= files


async def test_storage_is_as_measured_best(database: Database) -> None:
    await migrate.upgrade(database)
    if database.is_split:
        for store, size in ((database.main, 4096), (database.weights, 65536)):
            async with store.connection() as connection:
                pragmas = [
                    (await connection.execute(text(f"PRAGMA {name}"))).scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "page_size")
                ]
            assert pragmas == ["wal", 1, 1, size]
    else:
        query = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'blob_chunk'::regclass AND attname = 'data'"
        async with database.main.connection() as connection:
            assert (await connection.execute(text(query))).scalar() in ("e", b"e")


def test_every_branch_has_one_head() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    labels = [script.get_revision(head).branch_labels for head in script.get_heads()]
    assert sorted(label for labels_ in labels for label in labels_) == ["core", "weights"]
