"""Limits hold to the request and to the token, whichever of four API workers is asked, on either database.
`test_recovery.py` does it with two workers, whenever tests run."""

from pathlib import Path

import pytest

from loraplex.platform.settings import Settings
from support.at_once import LIMITS, check_limits
from support.postgres import Postgres, postgres
from support.serve import Serve

__all__ = ["postgres"]  # a fixture, found here by pytest

pytestmark = [pytest.mark.e2e, pytest.mark.soak]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_two_hundred_at_once_never_exceed_any_limit(
    kind: str, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options, url = ["--api-workers", "4", "--max-num-seqs", "32"], ""
    if kind == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
        options += ["--database-url", url]
    with Serve(model, tmp_path, *options) as serve:
        await check_limits(serve, Settings(data_dir=tmp_path, database_url=url), list(LIMITS))
