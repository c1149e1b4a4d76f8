"""Guessing passwords gets slower and slower, for all workers together, and costs nobody else anything."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from loraplex.platform.accounts.throttle import FORGET, Subject, Throttle, account, network
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import SignInThrottle
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import TooManyAttemptsError
from support.browser import PASSWORD, Browser, member
from support.services import Api, sqlite_only

ANN, HERE = account("ann@example.com"), network("192.0.2.1")


class Desk:
    """A throttle and the time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.throttle = Throttle(database, lambda: self.now)

    async def wait(self, *subjects: Subject) -> float:
        """Seconds an attempt has to wait; 0 if it was let through, and counted."""
        try:
            await self.throttle.admit(*subjects)
        except TooManyAttemptsError as error:
            return error.retry_after
        return 0.0

    async def succeed(self, whom: Subject, where: Subject) -> None:
        async with self.database.main.writing(EVERY_TENANT) as session:
            await self.throttle.succeeded(session, whom, where)


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


async def test_waits_double_up_to_a_bound(desk: Desk) -> None:
    waits: list[float] = []
    for _ in range(ANN.free + 1):
        assert await desk.wait(ANN, HERE) == 0
    while len(waits) < 12:
        waits.append(await desk.wait(ANN, network("203.0.113.9")))
        desk.now += timedelta(seconds=waits[-1])
        assert await desk.wait(ANN, HERE) == 0
    longest = ANN.longest.total_seconds()
    assert waits == [min(2.0**n, longest) for n in range(12)]
    assert waits[-1] == longest


@sqlite_only
async def test_another_account_from_another_address_is_not_slowed(desk: Desk) -> None:
    for _ in range(ANN.free + 1):
        await desk.wait(ANN, HERE)
    assert await desk.wait(ANN, HERE) > 0
    assert await desk.wait(account("bob@example.com"), HERE) == 0


@sqlite_only
async def test_an_address_that_tries_many_accounts_is_slowed(desk: Desk) -> None:
    for number in range(HERE.free + 1):
        assert await desk.wait(account(f"{number}@example.com"), HERE) == 0
    assert await desk.wait(account("next@example.com"), HERE) > 0
    assert await desk.wait(account("next@example.com"), network("192.0.2.2")) == 0
    # A customer has a whole /64 of IPv6.
    assert network("2001:db8::1").key == network("2001:db8::ffff:1").key
    assert network("2001:db8::1").key != network("2001:db8:0:1::1").key


@sqlite_only
async def test_success_forgets_the_account_and_not_the_address(desk: Desk) -> None:
    for _ in range(ANN.free):
        await desk.wait(ANN, HERE)
    await desk.succeed(ANN, HERE)
    for _ in range(ANN.free):
        assert await desk.wait(ANN, HERE) == 0
    async with desk.database.main.reading(EVERY_TENANT) as session:
        row = await session.get_one(SignInThrottle, HERE.key)
    assert row.failures == 2 * ANN.free - 1


@sqlite_only
async def test_a_day_later_all_is_forgotten(desk: Desk) -> None:
    for _ in range(ANN.free + 1):
        await desk.wait(ANN)
    assert await desk.wait(ANN) > 0
    desk.now += FORGET + timedelta(seconds=1)
    for _ in range(ANN.free):
        assert await desk.wait(ANN) == 0
    desk.now += FORGET + timedelta(seconds=1)
    await desk.throttle.sweep()
    async with desk.database.main.reading(EVERY_TENANT) as session:
        assert await session.get(SignInThrottle, ANN.key) is None


async def test_many_at_once_are_no_way_around(desk: Desk, database: Database) -> None:
    workers = [Throttle(database, lambda: desk.now) for _ in range(4)]
    subjects = (account("bob@example.com"), HERE)
    found = await asyncio.gather(
        *(workers[n % 4].admit(*subjects) for n in range(24)), return_exceptions=True
    )
    assert all(one is None or isinstance(one, TooManyAttemptsError) for one in found), found
    assert found.count(None) == ANN.free + 1


@sqlite_only
async def test_the_answer_says_when_to_come_back(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    answers = []
    for email in ("ann@example.com", "nobody@example.com"):
        for _ in range(ANN.free + 1):
            answer = await Browser(api).sign_in(email, "wrong password")
            assert answer.status_code == 401
        # The right password is not asked for either: it would tell that it is right.
        answers.append(await Browser(api).sign_in(email, PASSWORD))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
        assert answer.headers["retry-after"] == "1"
        assert "set-cookie" not in answer.headers
    assert answers[0].text == answers[1].text
