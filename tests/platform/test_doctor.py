"""`loraplex doctor` says what is well, and one sentence about whatever is not."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from loraplex.platform.cli.doctor import doctor
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import Job, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.doctor.database import STUCK, look_at_database
from loraplex.platform.doctor.machine import look_at_machine
from loraplex.platform.doctor.report import Check, Verdict
from loraplex.platform.doctor.service import look_at_service
from loraplex.platform.settings import ServedModel, Settings
from support.postgres import Postgres
from support.receiver import receiver


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


async def test_a_database_that_is_well(database: Database) -> None:
    checks = by_name(await look_at_database(database))
    bad = {c.name for c in checks.values() if c.verdict is Verdict.FAILURE}
    assert bad == set()
    assert {"database", "schema", "operators", "unfinished", "webhooks"} <= set(checks)
    if not database.is_split:
        assert checks["row security"].verdict is Verdict.OK
        # The server of these tests is fast and loose.
        assert "fsync" in checks["durability"].says


async def test_what_is_wrong_with_a_database_is_said(database: Database) -> None:
    async with database.main.writing(EVERY_TENANT) as session:
        tenant = Tenant(name="acme")
        session.add(tenant)
        await session.flush()
        old = utc_now() - 2 * STUCK
        session.add(
            Job(
                tenant_id=tenant.id,
                kind="import",
                request={},
                created_at=old,
                created_by="k",
            )
        )
        # At work, which may take hours.
        held = {"state": "running", "locked_until": utc_now() + STUCK}
        session.add(
            Job(
                tenant_id=tenant.id,
                kind="import",
                request={},
                created_at=old,
                created_by="k",
                **held,
            )
        )
    async with database.main.transaction() as connection:
        await connection.execute(text("DELETE FROM api_key"))
    checks = by_name(await look_at_database(database))
    assert checks["operators"].verdict is Verdict.FAILURE
    assert "1 jobs are older" in checks["unfinished"].says


async def test_a_database_that_is_not_there_or_not_migrated(
    tmp_path: Path, postgres: Postgres
) -> None:
    gone = Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none")
    for settings, name, word in (
        (gone, "database", "cannot be used"),
        (Settings(data_dir=tmp_path), "schema", "loraplex db upgrade"),
        (Settings(data_dir=tmp_path, database_url=postgres.new_database()), "schema", "upgrade"),
    ):
        opened = open_database(settings)
        check = by_name(await look_at_database(opened))[name]
        await opened.close()
        assert check.verdict is Verdict.FAILURE
        assert word in check.says


def test_the_machine(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    settings = Settings(
        data_dir=open_to_all,
        disk_cache_size=10**18,
        models=(ServedModel(base_dir, "tiny"), ServedModel(tmp_path, "none")),
    )
    checks = by_name(look_at_machine(settings))
    assert checks["data directory"].verdict is Verdict.WARNING
    assert checks["disk"].verdict is Verdict.WARNING
    assert checks["model tiny"].verdict is Verdict.OK
    assert checks["model none"].verdict is Verdict.FAILURE


def test_a_service_that_does_not_answer() -> None:
    (check,) = look_at_service("http://127.0.0.1:1", None)
    assert check.verdict is Verdict.FAILURE


async def test_the_command_ends_with_what_it_found(database: Database, settings: Settings) -> None:
    options = ["--data-dir", str(settings.data_dir), "--database-url", settings.database_url]
    done = await asyncio.to_thread(CliRunner().invoke, doctor, [*options, "--json"])
    assert done.exit_code == 0, done.output
    names = {row["name"] for row in json.loads(done.output)}
    assert {"device", "data directory", "schema"} <= names
    async with database.main.transaction() as connection:
        await connection.execute(text("DELETE FROM api_key"))
    done = await asyncio.to_thread(CliRunner().invoke, doctor, options)
    assert done.exit_code == 1
    assert "✗ operators" in done.output


def test_a_new_machine_is_well_and_stays_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    done = CliRunner().invoke(doctor, ["--data-dir", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    checks = {row["name"]: row["says"] for row in json.loads(done.output)}
    assert "is made at the first start" in checks["database"]
    assert not folder.exists()


async def test_another_server_at_the_address_is_said() -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"
    async with receiver() as got:
        got.answers = [page] * 3
        url = f"http://127.0.0.1:{got.port}"
        (check,) = await asyncio.to_thread(look_at_service, url, "key")
    assert "is not loraplex" in check.says
