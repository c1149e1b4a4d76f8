"""Owns `loraplex db`, which works on the database itself, without a server."""

import asyncio
from pathlib import Path

import click

DEFAULT_DATA_DIR = "loraplex-data"  # as `serve` has it


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    show_envvar=True,
    envvar="LORAPLEX_DATA_DIR",
    help="Where SQLite's files are.",
)
@click.option(
    "--database-url",
    default="",
    show_envvar=True,
    envvar="LORAPLEX_DATABASE_URL",
    help="postgresql://USER:PASSWORD@HOST/NAME in place of SQLite.",
)
def upgrade(data_dir: Path, database_url: str) -> None:
    """Bring the database to the schema of this release. `serve` does this itself at its start."""
    # Imported here: the client commands start without SQLAlchemy.
    from sqlalchemy.exc import SQLAlchemyError

    from loraplex.platform.db.database import open_database, unusable
    from loraplex.platform.db.migrate import upgrade as run
    from loraplex.platform.settings import Settings, SettingsError

    async def work() -> None:
        database = open_database(Settings(data_dir=data_dir, database_url=database_url))
        try:
            await run(database)
        finally:
            await database.close()

    try:
        asyncio.run(work())
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    except (SQLAlchemyError, OSError) as error:
        raise click.ClickException(unusable(error)) from error
    click.echo("The database has the schema of this release.")
