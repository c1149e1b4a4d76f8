"""Owns what tests of people share: passwords that cost next to nothing, and a proxy in front whose word counts."""

from dataclasses import replace

import pytest

from loraplex.platform.settings import PasswordHashing, Settings

CHEAP = PasswordHashing(memory_kib=64, time_cost=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As everywhere, and so that tests can choose their address with `x-forwarded-for`."""
    return replace(settings, password_hashing=CHEAP, trusted_proxies=("127.0.0.1",))
