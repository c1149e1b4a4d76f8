"""Owns the empty databases migrations are tried on."""

from pathlib import Path

import pytest

from loraplex.platform.settings import Settings
from support.postgres import Postgres, postgres

__all__ = ["postgres"]  # a fixture, found here by pytest


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings over an empty database, once per kind."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return Settings(data_dir=tmp_path, database_url=server.new_database())
