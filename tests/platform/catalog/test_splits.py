"""Which version of a split a request gets: by weight, the same one for the same user, few users moved by a change."""

from collections import Counter
from itertools import pairwise
from uuid import UUID

import pytest

from loraplex.platform.catalog.splits import Split, choose, read_split, same, shown
from loraplex.platform.errors import BadRequestError

TENANT = UUID(int=7)
USERS = [f"user-{n}" for n in range(4000)]


def chosen(split: Split, alias: str = "a@prod", tenant: UUID = TENANT) -> dict[str, int]:
    return {user: choose(split, tenant, alias, user) for user in USERS}


def moved(before: Split, after: Split) -> float:
    """The part of all users that meet another version."""
    one, other = chosen(before), chosen(after)
    return sum(one[user] != other[user] for user in USERS) / len(USERS)


@pytest.mark.parametrize("sticky", [True, False])
def test_versions_are_met_by_their_weights(sticky: bool) -> None:
    split = read_split({"3": 70, "4": 20, "12": 10})
    met = Counter(choose(split, TENANT, "a@prod", user if sticky else None) for user in USERS)
    # Six standard deviations of the largest share are 4.3 %.
    assert {n: count / len(USERS) for n, count in met.items()} == pytest.approx(
        {3: 0.7, 4: 0.2, 12: 0.1}, abs=0.045
    )


def test_the_same_user_meets_the_same_version_and_each_alias_divides_anew() -> None:
    split = read_split({"1": 1, "2": 1})
    own = chosen(split)
    assert chosen(split) == own
    others = (chosen(split, "a@canary"), chosen(split, "b@prod"), chosen(split, tenant=UUID(int=8)))
    for other in others:
        agree = sum(own[user] == n for user, n in other.items()) / len(USERS)
        assert 0.45 < agree < 0.55
    assert choose(split, TENANT, "a@prod", "\0 é") in (1, 2)


def test_a_growing_canary_moves_only_the_users_it_wins() -> None:
    steps = [read_split({"1": 100 - part, "2": part}) for part in (1, 5, 10, 25, 50, 99)]
    for before, after in pairwise(steps):
        one, other = chosen(before), chosen(after)
        assert all(other[user] == 2 for user in USERS if one[user] == 2), "nobody goes back"
        assert moved(before, after) == pytest.approx(after[1][1] - before[1][1], abs=0.03)


def test_no_more_users_move_than_a_new_version_takes() -> None:
    before = read_split({"1": 50, "2": 50})
    after = read_split({"1": 40, "2": 40, "3": 20})
    one, other = chosen(before), chosen(after)
    assert all(other[user] in (one[user], 3) for user in USERS)
    assert moved(before, after) == pytest.approx(0.2, abs=0.04)
    assert moved(before, read_split({"1": 7, "2": 7})) == 0, "the same weights in other numbers"


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {str(n): 1.0 for n in range(1, 12)},
        {"0": 1.0},
        {"01": 1.0},
        {"x": 1.0},
        {"²": 1.0},
        {"": 1.0},
        {"9999999999": 1.0},
        {"1": 0.0},
        {"1": -1.0},
        {"1": float("nan")},
        {"1": float("inf")},
        {"1": 1e9, "2": 5e-324},
    ],
)
def test_what_is_no_split(weights: dict[str, float]) -> None:
    with pytest.raises(BadRequestError, match=r"^split: "):
        read_split(weights)


def test_splits_are_compared_by_what_they_mean() -> None:
    thirds = read_split({"1": 1, "2": 1, "3": 1})
    assert same(thirds, read_split(shown(thirds))), "as the API showed it"
    assert not same(thirds, read_split({"1": 1, "2": 1, "4": 1}))
    assert not same(thirds, read_split({"1": 1, "2": 1}))
    assert not same(thirds, read_split({"1": 1, "2": 1, "3": 1.01}))
    assert not same(thirds, None)
    assert same(None, None)
