"""Owns how Alembic reaches a database: `platform/db/migrate.py` opens the connection and says which
branch to run, `core` (everything small) or `weights` (chunk rows). On SQLite they are two files
with a version table each."""

from alembic import context
from sqlalchemy import Connection


def run() -> None:
    """Run the requested migrations on the connection that was handed in."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise SystemExit("Migrations are run with `loraplex db upgrade`.")
    # Batch mode: SQLite alters a table by copying it.
    context.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
    with context.begin_transaction():
        context.run_migrations()


run()
