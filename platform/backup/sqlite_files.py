"""Owns copying the two SQLite files of a running service as they are at one moment, and putting a copy back."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import loraplex

MAIN, WEIGHTS, MANIFEST = "loraplex.db", "weights.db", "manifest.json"
# Writers of a busy service wait behind one another; a moment without one comes soon.
LOCK_SECONDS = 30.0
# Pages per step of a copy, so that progress can be told; the copy takes as long with any number above a few hundred.
STEP_PAGES = 4096


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why and what to do."""


def backup(main: Path, weights: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy both files into the new directory `target`, while they are in use.

    The copies are of one moment: a version is in the first if and only if its weights are in the second. Writers are
    kept out for the instant in which that moment is chosen, not for the time of the copy.

    Args:
        progress: called with bytes copied and bytes in all.
    Raises:
        BackupError: there is no such database, or `target` exists.
    """
    for file in (main, weights):
        if not file.exists():
            raise BackupError(f"There is no database {file}; check --data-dir.")
    if target.exists():
        raise BackupError(f"{target} exists already; choose a new directory.")
    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise BackupError(
            f"{part} is of a backup that was cut short or is being made; remove it, or choose another directory."
        ) from None
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        with _one_moment(main, weights) as snapshots:
            total = sum(_size(snapshot) for snapshot in snapshots)
            done = 0
            for snapshot, name in zip(snapshots, (MAIN, WEIGHTS), strict=True):
                _copy(snapshot, part / name, partial(_shifted, progress, done, total))
                done += _size(snapshot)
        manifest = {
            "release": loraplex.__version__,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        for file in part.iterdir():
            _sync(file)
        part.rename(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise BackupError(f"The database cannot be copied to {target}: {error}.") from error
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def restore(source: Path, main: Path, weights: Path) -> None:
    """Put the copies of a backup where a service will find them. Nothing is replaced.

    Raises:
        BackupError: `source` is no backup, a file is damaged, or there is a database already.
    """
    for name in (MAIN, WEIGHTS, MANIFEST):
        if not (source / name).exists():
            raise BackupError(f"{source} is no backup: it has no {name}.")
    for database in (main, weights):
        # SQLite would take a log left behind by another database for one of this file, and replay it.
        for side in ("", "-wal", "-shm", "-journal"):
            file = database.with_name(database.name + side)
            if file.exists():
                raise BackupError(
                    f"{file} exists already; restore into an empty data directory, or move it away."
                )
    for name in (MAIN, WEIGHTS):
        _check(source / name)
    try:
        main.parent.mkdir(parents=True, exist_ok=True)
        # The main file last: without it there is no database, so a restore that was cut short is seen as none.
        for name, file in ((WEIGHTS, weights), (MAIN, main)):
            part = file.with_name(f"{file.name}.part")
            shutil.copyfile(source / name, part)
            _sync(part)
            part.rename(file)
        _sync(main.parent)
    except OSError as error:
        raise _unwritable(main.parent, error) from error


@contextmanager
def _one_moment(*files: Path) -> Iterator[list[sqlite3.Connection]]:
    """Connections that all see their files as they are at the same moment."""
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(_open(file))) for file in files]
        with ExitStack() as locks:
            for file in files:
                writer = locks.enter_context(closing(_open(file)))
                try:
                    writer.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    raise BackupError(f"{file} stayed locked; try again later.") from error
            for reader in readers:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        # The writers' locks are gone; the readers' view stays.
        yield readers


def _shifted(progress: Callable[[int, int], None], before: int, total: int, copied: int) -> None:
    progress(before + copied, total)


def _copy(source: sqlite3.Connection, file: Path, progress: Callable[[int], None]) -> None:
    page = int(source.execute("PRAGMA page_size").fetchone()[0])

    def tell(_: int, remaining: int, pages: int) -> None:
        progress((pages - remaining) * page)

    with closing(sqlite3.connect(file)) as copy:
        source.backup(copy, pages=STEP_PAGES, progress=tell)


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)


def _size(connection: sqlite3.Connection) -> int:
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    return pages * int(connection.execute("PRAGMA page_size").fetchone()[0])


def _check(file: Path) -> None:
    try:
        # Read-only, and with no side files: a backup may lie on a medium that cannot be written.
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)
        ) as connection:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{file} is damaged: {error}.") from error
    if answer != "ok":
        raise BackupError(f"{file} is damaged: {answer}.")


def _unwritable(path: Path, error: OSError) -> BackupError:
    return BackupError(f"{path} cannot be written: {error.strerror or error}.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
