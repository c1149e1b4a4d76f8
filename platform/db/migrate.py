"""Owns bringing a database to the schema of this release, and telling whether it is there. Run by
`loraplex db upgrade` and by `serve` before it starts anything."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

import loraplex
from loraplex.platform.db.database import Database, Store

# Of PostgreSQL's advisory locks, the one held by who migrates: "lrpx" as a number.
LOCK = 0x6C727078


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    # A path, not a package: the folder is a namespace portion, whose package resource has no single path.
    folder = Path(loraplex.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    return config


def _parts(database: Database) -> list[tuple[Store, str]]:
    """Each store with the branch of migrations it holds; empty means both."""
    if database.is_split:
        return [(database.main, "core"), (database.weights, "weights")]
    return [(database.main, "")]


async def upgrade(database: Database) -> None:
    """Run every migration that is missing."""
    await _run(database, up=True)


async def downgrade(database: Database) -> None:
    """Undo every migration: all data is lost."""
    await _run(database, up=False)


async def is_current(database: Database) -> bool:
    """Whether every store is exactly at the newest schema this release knows."""
    script = ScriptDirectory.from_config(alembic_config())
    for store, branch in _parts(database):
        async with store.connection() as connection:
            heads = await connection.run_sync(_heads)
        wanted = {r.revision for r in script.get_revisions(f"{branch}@head" if branch else "heads")}
        if heads != wanted:
            return False
    return True


def _heads(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


async def _run(database: Database, *, up: bool) -> None:
    for store, branch in _parts(database):
        target = (f"{branch}@head" if branch else "heads") if up else f"{branch}@base".lstrip("@")

        def migrate(connection: Connection, target: str = target) -> None:
            if connection.dialect.name == "postgresql":
                # Services that start together over one database: the second waits, and finds nothing left to do.
                connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
            config = alembic_config()
            config.attributes["connection"] = connection
            (command.upgrade if up else command.downgrade)(config, target)

        async with store.transaction() as connection:
            await connection.run_sync(migrate)
