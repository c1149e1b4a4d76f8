"""Owns the databases and the in-process app that tests of the platform run on: SQLite and a real PostgreSQL."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import text

from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.db.base import Base, WeightsBase
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.settings import ServedModel, Settings
from support.apps import client_of, running_app
from support.checkpoints import peft_adapter, tiny_model
from support.postgres import Postgres, postgres
from support.services import OPERATOR, Api, FakeEngines

__all__ = ["postgres"]  # a fixture, found here by pytest


async def _migrate(settings: Settings) -> None:
    database = open_database(settings)
    await upgrade(database)
    await ensure_operator_key(database, OPERATOR)
    await database.close()


@pytest.fixture(scope="session")
def migrated_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with migrated SQLite files, to be copied: faster than migrating for each test."""
    folder = tmp_path_factory.mktemp("migrated")
    asyncio.run(_migrate(Settings(data_dir=folder)))
    return folder


@pytest.fixture(scope="session")
def migrated_url(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated PostgreSQL database, emptied for each test: faster than a new one."""
    url = postgres.new_database()
    asyncio.run(_migrate(Settings(data_dir=tmp_path_factory.mktemp("unused"), database_url=url)))
    return url


async def _empty(settings: Settings) -> None:
    database = open_database(settings)
    tables = [*Base.metadata.tables, *WeightsBase.metadata.tables]
    async with database.main.transaction() as connection:
        await connection.execute(text(f"TRUNCATE {', '.join(tables)}"))
    await ensure_operator_key(database, OPERATOR)
    await database.close()


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def adapter_dir(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of rank 8 on every linear module of `base_dir`, as PEFT writes it."""
    return peft_adapter(base_dir, tmp_path_factory.mktemp("adapters") / "one", rank=8, seed=1)


@pytest.fixture(scope="session")
def other_adapter_dir(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another LoRA, of rank 4."""
    return peft_adapter(base_dir, tmp_path_factory.mktemp("adapters") / "two", rank=4, seed=2)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, base_dir: Path) -> Settings:
    """Settings over a fresh migrated database, once per kind; `OPERATOR` is the operator's key."""
    data_dir, models = tmp_path / "data", (ServedModel(base_dir, "tiny"),)
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("migrated_files"), data_dir)
        return Settings(data_dir=data_dir, models=models)
    url: str = request.getfixturevalue("migrated_url")
    settings = Settings(data_dir=data_dir, database_url=url, models=models)
    asyncio.run(_empty(settings))
    return settings


@pytest.fixture
async def database(settings: Settings) -> AsyncGenerator[Database]:
    """The same database as the app has, through connections of its own."""
    database = open_database(settings)
    yield database
    await database.close()


@pytest.fixture
async def api(settings: Settings, database: Database) -> AsyncGenerator[Api]:
    """The app over `settings`."""
    engines = FakeEngines(settings.models)
    async with running_app(settings, engines) as app, client_of(app) as client:
        yield Api(client, database, engines, settings.data_dir / "spool")
