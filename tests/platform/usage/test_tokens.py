"""Tokens of pages of sums: what the columns cannot hold is refused before the database sees it."""

from datetime import UTC, datetime

import pytest

from loraplex.platform.errors import BadRequestError
from loraplex.platform.usage.sums import Group, Place
from loraplex.platform.usage.tokens import read_token, write_token


@pytest.mark.parametrize("version", [-1, -(2**70), 2**31, 2**70])
def test_a_forged_number_is_refused(version: int) -> None:
    by = (Group.ADAPTER, Group.VERSION)
    start = datetime(2026, 11, 10, tzinfo=UTC)
    good = Place(start, ("fox", 3))
    assert read_token(write_token(good), by) == good
    with pytest.raises(BadRequestError):
        read_token(write_token(Place(start, ("fox", version))), by)
