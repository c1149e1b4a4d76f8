"""Requests that come while a key is being asked for share the question, and nothing that happens to one of them or to
the question hurts the others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from loraplex.platform.auth.authenticator import CACHE_SECONDS, Authenticator
from loraplex.platform.auth.key_service import KeyService
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.database import Database, Store
from loraplex.platform.db.scope import Whose
from loraplex.platform.errors import AuthenticationError
from support.patience import PATIENCE_SECONDS
from support.services import OPERATOR, Api, sqlite_only

pytestmark = sqlite_only


class GatedStore(Store):
    """Counts reading sessions, which have what they asked for but end only while the gate is open."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.failure: Exception | None = None
        self.sessions = 0

    @asynccontextmanager
    async def reading(self, whose: Whose) -> AsyncGenerator[AsyncSession]:
        self.sessions += 1
        async with super().reading(whose) as session:
            yield session
        self.reached.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def until_one_waits(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.reached.wait()

    def close(self) -> None:
        self.gate.clear()
        self.reached.clear()


class Desk:
    """An authenticator over a gated store, with a clock of its own."""

    def __init__(self, database: Database) -> None:
        self.store = GatedStore(database.main.engine)
        self.now = 0.0
        self.authenticator = Authenticator(replace(database, main=self.store), lambda: self.now)

    def ask(self, key: str = OPERATOR) -> asyncio.Task[Principal]:
        return asyncio.create_task(self.authenticator.authenticate(f"Bearer {key}"))


@pytest.fixture
async def desk(database: Database) -> Desk:
    return Desk(database)


async def outcomes(asked: list[asyncio.Task[Principal]]) -> list[Principal | BaseException]:
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_requests_after_the_end_of_what_is_remembered_ask_once(desk: Desk) -> None:
    desk.store.gate.set()
    await desk.ask()
    desk.store.close()
    desk.now = CACHE_SECONDS
    asked = [desk.ask() for _ in range(20)]
    await desk.store.until_one_waits()
    asked += [desk.ask() for _ in range(20)]
    desk.store.gate.set()
    found = await outcomes(asked)
    assert desk.store.sessions == 2
    assert all(isinstance(one, Principal) and one.is_operator for one in found)
    # The answer is as old as the question.
    desk.now = 2 * CACHE_SECONDS - 0.1
    await desk.ask()
    assert desk.store.sessions == 2
    desk.now = 2 * CACHE_SECONDS
    await desk.ask()
    assert desk.store.sessions == 3


async def test_two_keys_are_two_questions(desk: Desk) -> None:
    wrong = "lpx_live_" + "0" * 12
    asked = [desk.ask(key) for key in (OPERATOR, wrong + "1" * 8, OPERATOR, OPERATOR[:-1] + "2")]
    desk.store.gate.set()
    right, *others = await outcomes(asked)
    assert isinstance(right, Principal)
    assert [type(one) for one in others] == [AuthenticationError, Principal, AuthenticationError]


async def test_a_failed_question_is_asked_again(desk: Desk) -> None:
    desk.store.failure = ConnectionError("the database is away")
    asked = [desk.ask() for _ in range(3)]
    await desk.store.until_one_waits()
    desk.store.gate.set()
    assert await outcomes(asked) == [desk.store.failure] * 3
    assert desk.store.sessions == 1
    desk.store.failure = None
    assert (await desk.ask()).is_operator


@pytest.mark.parametrize("cancelled", [(0,), (1, 2), (0, 1, 2)])
async def test_a_cancelled_request_takes_nobody_along(
    desk: Desk, cancelled: tuple[int, ...]
) -> None:
    asked = [desk.ask() for _ in range(3)]
    await desk.store.until_one_waits()
    for place in cancelled:
        asked[place].cancel()
    later = desk.ask()
    await asyncio.sleep(0)
    desk.store.gate.set()
    found = await outcomes([*asked, later])
    ends = [asyncio.CancelledError if place in cancelled else Principal for place in range(3)]
    assert [type(one) for one in found] == [*ends, Principal]
    assert desk.store.sessions == 1


async def test_an_answer_from_before_a_revocation_is_neither_shared_nor_kept(
    api: Api, database: Database, desk: Desk
) -> None:
    key = await api.tenant("acme")
    early = desk.ask(key)
    await desk.store.until_one_waits()  # it has read the key, and that it is valid
    operator = await Authenticator(database).authenticate(f"Bearer {OPERATOR}")
    tenant = (await Authenticator(database).authenticate(f"Bearer {key}")).tenant_id
    assert tenant is not None
    service = KeyService(database, desk.authenticator)
    await service.revoke(operator, tenant, key.split("_")[2])
    late = desk.ask(key)
    desk.store.gate.set()
    assert isinstance(await early, Principal)
    for asked in (late, desk.ask(key)):
        with pytest.raises(AuthenticationError):
            await asked
