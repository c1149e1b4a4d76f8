"""Owns moving a database to any revision of its schema, which the product does only to the newest."""

from alembic import command
from sqlalchemy import Connection

from loraplex.platform.db import migrate
from loraplex.platform.db.database import Database


async def migrate_to(database: Database, revision: str, *, up: bool) -> None:
    """Up, or down, to `revision`."""

    def run(connection: Connection) -> None:
        config = migrate.alembic_config()
        config.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(config, revision)

    async with database.main.transaction() as connection:
        await connection.run_sync(run)
