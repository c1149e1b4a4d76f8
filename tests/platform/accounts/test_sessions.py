"""How long sessions and their tokens live, by a clock of the test's own."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from loraplex.platform.accounts.sessions import (
    REMEMBER,
    SESSIONS_PER_USER,
    Found,
    SessionRules,
    Sessions,
)
from loraplex.platform.accounts.users import new_user
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import User, UserSession
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import sqlite_only

RULES = SessionRules()
SECOND = timedelta(seconds=1)


class Desk:
    """Sessions of one user, and the time."""

    def __init__(self, database: Database, user: User) -> None:
        self.database = database
        self.user = user
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.sessions = Sessions(database, lambda: self.now)

    def elsewhere(self) -> Sessions:
        """Those of another process."""
        return Sessions(self.database, lambda: self.now)

    async def open(self) -> str:
        async with self.database.main.writing(EVERY_TENANT) as session:
            _, token = await self.sessions.open(session, self.user, "192.0.2.1", "a browser")
        return token

    async def use(self, token: str) -> str | None:
        """One request: the token to go on with, None if it was refused."""
        found = await self.sessions.find(token)
        if found is None:
            return None
        return await self.sessions.keep(token, found) or token


@pytest.fixture
async def desk(database: Database) -> Desk:
    user = new_user("ann@example.com", "Ann")
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(user)
    return Desk(database, user)


async def test_a_token_changes_with_use_and_the_old_one_ends_after_a_moment(desk: Desk) -> None:
    first = await desk.open()
    desk.now += RULES.renew - SECOND
    assert await desk.use(first) == first
    desk.now += REMEMBER
    second = await desk.use(first)
    assert second not in (None, first)
    # On its way when the new one was given out.
    desk.now += SECOND
    assert await desk.use(first) == first
    assert second is not None
    assert await desk.use(second) == second
    desk.now += RULES.overlap
    assert await desk.use(first) is None
    assert await desk.use(second) == second


@sqlite_only
async def test_a_token_whose_answer_was_lost_is_replaced_again(desk: Desk) -> None:
    first = await desk.open()
    desk.now += RULES.renew
    lost = await desk.use(first)
    desk.now += RULES.overlap + REMEMBER
    third = await desk.use(first)
    assert third not in (None, first, lost)
    assert lost is not None
    assert await desk.use(lost) is None
    assert third is not None
    assert await desk.use(third) == third


async def test_of_two_requests_one_gets_the_new_token(desk: Desk) -> None:
    first = await desk.open()
    desk.now += RULES.renew
    here, there = desk.sessions, desk.elsewhere()
    found = [await sessions.find(first) for sessions in (here, there)]
    assert None not in found
    new = [
        await sessions.keep(first, one)
        for sessions, one in zip((here, there), found, strict=True)
        if one is not None
    ]
    assert new[0] is not None
    assert new[1] is None
    # And the other goes on with the old one for the moment.
    assert await there.find(first) is not None
    assert await there.find(new[0]) is not None


async def test_a_session_ends_unused_and_ends_at_last(desk: Desk) -> None:
    token = await desk.open()
    desk.now += RULES.idle - SECOND
    token = await desk.use(token) or ""
    desk.now += RULES.idle - SECOND
    token = await desk.use(token) or ""
    assert token
    desk.now += RULES.idle
    assert await desk.use(token) is None
    token = await desk.open()
    end = desk.now + RULES.longest
    while desk.now < end - SECOND:
        assert token
        token = await desk.use(token) or ""
        desk.now = min(desk.now + RULES.idle / 2, end - SECOND)
    assert await desk.use(token)
    desk.now = end
    assert await desk.elsewhere().find(token) is None
    await desk.sessions.sweep()
    async with desk.database.main.reading(EVERY_TENANT) as session:
        assert (await session.scalars(select(UserSession))).all() == []


@sqlite_only
async def test_what_is_remembered_ends_with_the_session(desk: Desk) -> None:
    token = await desk.open()
    elsewhere = desk.elsewhere()
    found = await desk.sessions.find(token)
    assert isinstance(found, Found)
    assert await elsewhere.find(token) is not None
    actor = Principal(actor_id=desk.user.id, is_user=True)
    await desk.sessions.end(actor, found.user.session_id)
    assert await desk.sessions.find(token) is None
    desk.now += REMEMBER - SECOND
    assert await elsewhere.find(token) is not None
    desk.now += SECOND
    assert await elsewhere.find(token) is None
    assert timedelta(seconds=5) >= REMEMBER


@sqlite_only
async def test_a_disabled_user_is_out_everywhere_within_five_seconds(desk: Desk) -> None:
    token = await desk.open()
    assert await desk.sessions.find(token) is not None
    async with desk.database.main.writing(EVERY_TENANT) as session:
        (await session.get_one(User, desk.user.id)).disabled_at = desk.now
    desk.now += REMEMBER
    assert await desk.sessions.find(token) is None


@sqlite_only
async def test_a_user_has_so_many_sessions_and_the_oldest_go(desk: Desk) -> None:
    tokens = []
    for _ in range(SESSIONS_PER_USER + 2):
        tokens.append(await desk.open())
        desk.now += SECOND
    alive = [await desk.sessions.find(token) is not None for token in tokens]
    assert alive == [False, False] + [True] * SESSIONS_PER_USER
