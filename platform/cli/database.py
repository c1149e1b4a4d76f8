"""Owns `loraplex db`, which works on the database itself, without a server."""

import asyncio
import fcntl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from loraplex.platform.db.database import Database

DEFAULT_DATA_DIR = "loraplex-data"  # as `serve` has it
T = TypeVar("T")

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    show_envvar=True,
    envvar="LORAPLEX_DATA_DIR",
    help="Where SQLite's files are.",
)
database_url_option = click.option(
    "--database-url",
    default="",
    show_envvar=True,
    envvar="LORAPLEX_DATABASE_URL",
    help="postgresql://USER:PASSWORD@HOST/NAME in place of SQLite.",
)


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@data_dir_option
@database_url_option
def upgrade(data_dir: Path, database_url: str) -> None:
    """Bring the database to the schema of this release. `serve` does this itself at its start."""
    # Imported here, as below: the client commands start without SQLAlchemy.
    from loraplex.platform.db.migrate import upgrade as run

    _with_database(data_dir, database_url, run)
    click.echo("The database has the schema of this release.")


@db.command()
@click.argument("directory", type=click.Path(path_type=Path))
@data_dir_option
@database_url_option
def backup(directory: Path, data_dir: Path, database_url: str) -> None:
    """Copy SQLite's files into a new DIRECTORY, also while the service runs."""
    from loraplex.platform.backup import sqlite_files

    main, weights = _files(data_dir, database_url)
    with click.progressbar(length=100, label="Copying") as bar:

        def tell(done: int, total: int) -> None:
            bar.update(max(0, done * 100 // max(1, total) - bar.pos))

        try:
            sqlite_files.backup(main, weights, directory, tell)
        except sqlite_files.BackupError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"The backup is in {directory}.")


@db.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_dir_option
@database_url_option
def restore(directory: Path, data_dir: Path, database_url: str) -> None:
    """Put the backup in DIRECTORY into a data directory without a database."""
    from loraplex.platform.backup import sqlite_files

    main, weights = _files(data_dir, database_url)
    try:
        with _no_service(data_dir):
            sqlite_files.restore(directory, main, weights)
    except sqlite_files.BackupError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Restored into {main.parent}; `loraplex db check` reads it all.")


@db.command()
@data_dir_option
@database_url_option
def check(data_dir: Path, database_url: str) -> None:
    """Read every stored adapter and file and compare it with what it should be, also while the service runs."""
    from loraplex.platform.backup.inspection import inspect

    files = _sqlite_files(data_dir, database_url)
    if files is not None and not files[0].exists():
        # To open it would make one.
        raise click.ClickException(f"There is no database in {files[0].parent}; check --data-dir.")
    finding = _with_database(data_dir, database_url, inspect)
    for fault in finding.faults:
        click.echo(f"{fault.what}: {fault.why}", err=True)
    if finding.faults:
        raise click.ClickException(f"{len(finding.faults)} faults were found.")
    click.echo(
        f"{finding.versions} versions, {finding.files} files and the {finding.blobs} blobs of them"
        f" ({finding.bytes / 1e6:.1f} MB) are whole."
    )


def _with_database(
    data_dir: Path, database_url: str, work: "Callable[[Database], Awaitable[T]]"
) -> T:
    from sqlalchemy.exc import SQLAlchemyError

    from loraplex.platform.db.database import open_database, unusable
    from loraplex.platform.settings import Settings, SettingsError

    async def run() -> T:
        database = open_database(Settings(data_dir=data_dir, database_url=database_url))
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    except (SQLAlchemyError, OSError) as error:
        raise click.ClickException(unusable(error)) from error


def _files(data_dir: Path, database_url: str) -> tuple[Path, Path]:
    """SQLite's two files."""
    files = _sqlite_files(data_dir, database_url)
    if files is None:
        raise click.ClickException(
            "PostgreSQL has its own tools for this: pg_dump --format=custom, and pg_restore."
        )
    return files


def _sqlite_files(data_dir: Path, database_url: str) -> tuple[Path, Path] | None:
    from loraplex.platform.db.database import sqlite_files
    from loraplex.platform.settings import Settings, SettingsError

    try:
        return sqlite_files(Settings(data_dir=data_dir, database_url=database_url))
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _no_service(data_dir: Path) -> Iterator[None]:
    """Hold the data directory as `serve` does."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException(
                f"A loraplex serve uses {data_dir}; stop it first."
            ) from error
        yield
