"""A backup made while the service works is of one moment and can be restored; damage is found and named."""

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select, text

from loraplex.platform.backup import sqlite_files
from loraplex.platform.backup.inspection import inspect
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.cli.database import db
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import BlobChunk, File, FilePart
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.ids import FILE, read
from loraplex.platform.settings import Settings
from support.openai_client import client_of
from support.postgres import Postgres
from support.services import Api, bearer, sqlite_only


async def loraplex_db(*arguments: str | Path) -> str:
    """Run `loraplex db`, which has an event loop of its own."""
    done = await asyncio.to_thread(CliRunner().invoke, db, [str(each) for each in arguments])
    return f"{done.exit_code}: {done.output}"


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    yield open_database(settings)


@sqlite_only
async def test_a_backup_of_a_working_service_restores(
    api: Api, settings: Settings, adapter_dir: Path, other_adapter_dir: Path, tmp_path: Path
) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir, "before")
    async with client_of(api.client, key) as client:
        file = await client.files.create(file=b"to be kept", purpose="user_data")
    pushing = True

    async def push_and_delete() -> None:
        number = 0
        while pushing:
            number += 1
            await api.push(key, other_adapter_dir, f"during-{number % 3}")
            if number % 2:
                await api.client.delete(
                    f"/api/v1/adapters/during-{number % 3}", headers=bearer(key)
                )

    work = asyncio.create_task(push_and_delete())
    for number in range(4):
        said = await loraplex_db("backup", tmp_path / str(number), "--data-dir", settings.data_dir)
        assert said.startswith("0:"), said
    pushing = False
    await work
    for number in range(4):
        target = tmp_path / f"restored-{number}"
        said = await loraplex_db("restore", tmp_path / str(number), "--data-dir", target)
        assert said.startswith("0:"), said
        said = await loraplex_db("check", "--data-dir", target)
        assert said.startswith("0:"), said
        database = open_database(Settings(data_dir=target))
        async with database.main.connection() as connection:
            names = set((await connection.execute(text("SELECT name FROM adapter"))).scalars())
        contents, file_id = Contents(database, Weights(database)), read(FILE, file.id)
        async with database.main.reading(EVERY_TENANT) as session:
            owner = (await session.get_one(File, file_id)).tenant_id
        pieces = [piece async for piece in contents.read(owner, file_id)]
        await database.close()
        assert "before" in names
        assert b"".join(pieces) == b"to be kept"
    assert not [
        file
        for file in await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
        if file.suffix == ".part"
    ]


@sqlite_only
async def test_what_stands_in_the_way_is_said(api: Api, settings: Settings, tmp_path: Path) -> None:
    here = ("--data-dir", settings.data_dir)
    made = tmp_path / "made"
    assert (await loraplex_db("backup", made, *here)).startswith("0:")
    assert "exists already; choose a new directory" in await loraplex_db("backup", made, *here)
    assert "exists already; restore into an empty" in await loraplex_db("restore", made, *here)
    elsewhere = ("--data-dir", tmp_path / "elsewhere")
    assert "There is no database" in await loraplex_db("backup", tmp_path / "b", *elsewhere)
    assert "is no backup" in await loraplex_db("restore", tmp_path, *elsewhere)
    damaged = tmp_path / "damaged"
    shutil.copytree(made, damaged)
    content = bytearray((damaged / "loraplex.db").read_bytes())
    content[4096:12288] = bytes(8192)
    (damaged / "loraplex.db").write_bytes(content)
    assert "is damaged" in await loraplex_db("restore", damaged, *elsewhere)
    assert not (tmp_path / "elsewhere" / "loraplex.db").exists()
    url = ("--database-url", "postgresql://u@h/d")
    assert "pg_dump" in await loraplex_db("backup", tmp_path / "c", *url)


async def test_damage_is_found(api: Api, adapter_dir: Path, other_adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    for name, directory in (("one", adapter_dir), ("two", other_adapter_dir)):
        assert (await api.push(key, directory, name)).status_code == 201
    assert (await inspect(api.database)).faults == []
    query = "SELECT blob_id FROM adapter_version v JOIN adapter a ON a.id = v.adapter_id"
    async with api.database.main.connection() as connection:
        found = await connection.execute(text(f"{query} WHERE a.name = 'two'"))
        blob = found.scalar_one()
    async with api.database.weights.transaction() as connection:
        changed = "UPDATE blob_chunk SET data = :data WHERE blob_id = :blob AND seq = 0"
        await connection.execute(text(changed), {"data": b"other", "blob": blob})
    faults = (await inspect(api.database)).faults
    assert [fault.what for fault in faults][1:] == ["acme/two@1"]


async def test_damage_of_files_is_found(api: Api) -> None:
    async with client_of(api.client, await api.tenant("acme")) as client:
        whole, torn = [
            await client.files.create(file=b"abc", purpose="user_data") for _ in range(2)
        ]
        finding = await inspect(api.database)
        assert (finding.files, finding.blobs, finding.faults) == (2, 2, [])
        part = select(FilePart.blob_id).where(FilePart.file_id == read(FILE, torn.id))
        async with api.database.main.reading(EVERY_TENANT) as session:
            blob = (await session.scalars(part)).one()
        async with api.database.weights.writing(EVERY_TENANT) as session:
            await session.execute(delete(BlobChunk).where(BlobChunk.blob_id == blob))
        finding = await inspect(api.database)
    assert [fault.what for fault in finding.faults] == [f"blob {blob}", f"acme/{torn.id}"]
    assert finding.files == 2
    assert whole.id not in str(finding.faults)


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
async def test_postgresql_is_dumped_and_restored_with_its_own_tools(
    api: Api, settings: Settings, adapter_dir: Path, postgres: Postgres, tmp_path: Path
) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir, "kept")
    dump, target = tmp_path / "dump", postgres.new_database()
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", settings.database_url],
        ["pg_restore", "--exit-on-error", f"--dbname={target}", str(dump)],
    ):
        command[0] = str(postgres.program(command[0]))
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert urlsplit(target).path != urlsplit(settings.database_url).path
    database = open_database(Settings(data_dir=tmp_path, database_url=target))
    finding = await inspect(database)
    async with database.main.connection() as connection:
        policies = await connection.scalar(text("SELECT count(*) FROM pg_policies"))
    await database.close()
    assert (finding.versions, finding.faults) == (1, [])
    assert policies, "row-level security is part of a dump"


def test_writers_are_kept_out_for_an_instant_only(tmp_path: Path) -> None:
    files = tmp_path / "loraplex.db", tmp_path / "weights.db"
    for file in files:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE t (data BLOB)")
            connection.executemany("INSERT INTO t VALUES (?)", [(bytes(65536),)] * 500)
            connection.commit()
    written = 0

    def write(_: int, __: int) -> None:
        nonlocal written
        with closing(sqlite3.connect(files[0], timeout=0)) as connection:
            connection.execute("INSERT INTO t VALUES ('later')")
            connection.commit()
        written += 1

    sqlite_files.backup(*files, tmp_path / "copy", write)
    assert written >= 2
    with closing(sqlite3.connect(tmp_path / "copy" / "loraplex.db")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 500


@sqlite_only
async def test_a_log_left_behind_is_not_replayed(
    api: Api, settings: Settings, tmp_path: Path
) -> None:
    made, target = tmp_path / "made #1", tmp_path / "target"
    said = await loraplex_db("backup", made, "--data-dir", settings.data_dir)
    assert said.startswith("0:"), said
    target.mkdir()
    log = target / "weights.db-wal"
    log.write_bytes(b"of a database that was moved away")
    said = await loraplex_db("restore", made, "--data-dir", target)
    assert f"{log} exists already" in said
    log.unlink()
    assert (await loraplex_db("restore", made, "--data-dir", target)).startswith("0:")


async def test_a_backup_removes_nothing_and_says_what_cannot_be_read(tmp_path: Path) -> None:
    here, part = ("--data-dir", tmp_path), tmp_path / "made.part"
    for name in ("loraplex.db", "weights.db"):
        (tmp_path / name).write_bytes(b"no database at all" * 100)
    assert "not a database" in await loraplex_db("backup", tmp_path / "made", *here)
    assert not part.exists()
    part.mkdir()
    (part / "mine").touch()
    assert f"{part} is of a backup" in await loraplex_db("backup", tmp_path / "made", *here)
    assert (part / "mine").exists()


async def test_checking_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        said = await loraplex_db("check", "--data-dir", folder)
        assert said == f"1: Error: There is no database in {folder}; check --data-dir.\n"
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - nobody else waits here
