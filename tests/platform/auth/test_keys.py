"""The form of keys: what is made is accepted, what is mistyped is told before the database is asked."""

import re

import pytest

from loraplex.platform.auth.keys import generate, key_id


def test_a_new_key_carries_its_id() -> None:
    new = generate()
    assert re.fullmatch(r"lpx_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", new.token)
    assert key_id(new.token) == new.id


def test_keys_differ() -> None:
    assert len({generate().token for _ in range(100)}) == 100


def test_every_single_changed_character_is_noticed() -> None:
    token = generate().token
    for place in range(len("lpx_live_"), len(token)):
        for other in {"x", "7"} - {token[place]}:
            assert key_id(token[:place] + other + token[place + 1 :]) is None


def test_a_chosen_bootstrap_key_has_a_stable_id() -> None:
    assert key_id("correct-horse-battery") == key_id("correct-horse-battery")
    assert key_id("correct-horse-battery") != key_id("correct-horse-batterz")
    assert len(key_id("correct-horse-battery") or "") == 12


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "ü" * 20, "x" * 201])
def test_what_cannot_be_a_key(token: str) -> None:
    assert key_id(token) is None
