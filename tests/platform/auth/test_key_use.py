"""When keys were last used: noted with each request, written in batches, never set back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.key_use import KeyUse
from loraplex.platform.auth.keys import key_id
from loraplex.platform.db.database import Database, Store
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT, Whose
from loraplex.platform.errors import AuthenticationError
from support.services import OPERATOR

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEYS = tuple(f"key{n:09}" for n in range(3))


@pytest.fixture
async def use(database: Database) -> KeyUse:
    async with database.main.writing(EVERY_TENANT) as session:
        session.add_all(
            ApiKey(id=key, name="", sha256="", last4="", scopes=[], tenant_id=None) for key in KEYS
        )
    return KeyUse(database)


async def last_used(database: Database, *keys: str) -> list[datetime | None]:
    async with database.main.reading(EVERY_TENANT) as session:
        return [(await session.get_one(ApiKey, key)).last_used_at for key in keys]


async def test_a_batch_is_one_statement_with_a_moment_for_each(
    use: KeyUse, database: Database
) -> None:
    statements: list[str] = []
    event.listen(
        database.main.engine.sync_engine,
        "before_cursor_execute",
        lambda *call: statements.append(call[2]),
    )
    use.note(KEYS[0], NOON)
    use.note(KEYS[1], NOON + MINUTE)
    use.note(KEYS[0], NOON + 2 * MINUTE)
    assert statements == []
    await use.write()
    await use.write()
    assert [text.split()[0] for text in statements].count("UPDATE") == 1
    assert await last_used(database, *KEYS) == [NOON + 2 * MINUTE, NOON + MINUTE, None]


async def test_an_older_moment_of_another_worker_changes_nothing(
    use: KeyUse, database: Database
) -> None:
    slow = KeyUse(database)
    slow.note(KEYS[0], NOON)
    slow.note(KEYS[1], NOON)
    use.note(KEYS[0], NOON + MINUTE)
    await use.write()
    await slow.write()
    assert await last_used(database, *KEYS[:2]) == [NOON + MINUTE, NOON]


async def test_workers_with_the_same_keys_do_not_wait_in_circles(database: Database) -> None:
    async with database.main.writing(EVERY_TENANT) as session:
        session.add_all(
            ApiKey(id=f"k{n:011}", name="", sha256="", last4="", scopes=[], tenant_id=None)
            for n in range(200)
        )
    workers = [KeyUse(database) for _ in range(6)]
    for place, worker in enumerate(workers):
        for n in range(200)[:: -1 if place % 2 else 1]:
            worker.note(f"k{n:011}", NOON + place * MINUTE)
    await asyncio.gather(*(worker.write() for worker in workers))
    assert await last_used(database, "k00000000000") == [NOON + 5 * MINUTE]


class _AwayStore(Store):
    """A database that is away while `away`."""

    away = True

    @asynccontextmanager
    async def writing(self, whose: Whose) -> AsyncGenerator[AsyncSession]:
        if self.away:
            raise OperationalError("UPDATE", {}, Exception("away"))
        async with super().writing(whose) as session:
            yield session


async def test_what_could_not_be_written_is_kept(use: KeyUse, database: Database) -> None:
    store = _AwayStore(database.main.engine)
    patient = KeyUse(replace(database, main=store))
    patient.note(KEYS[0], NOON)
    with pytest.raises(OperationalError):
        await patient.write()
    patient.note(KEYS[1], NOON)
    store.away = False
    await patient.write()
    assert await last_used(database, *KEYS[:2]) == [NOON, NOON]


async def test_what_is_left_is_written_at_the_end(use: KeyUse, database: Database) -> None:
    ending = asyncio.Event()
    running = asyncio.create_task(use.run(ending))
    use.note(KEYS[2], NOON)
    ending.set()
    await running
    assert await last_used(database, KEYS[2]) == [NOON]


async def test_only_keys_that_were_let_in_are_noted(database: Database) -> None:
    use = KeyUse(database)
    operator = key_id(OPERATOR) or ""
    authenticator = Authenticator(database, now=lambda: NOON, use=use)
    with pytest.raises(AuthenticationError):
        await authenticator.authenticate("Bearer another-key-altogether")
    await use.write()
    assert await last_used(database, operator) == [None]
    await authenticator.authenticate(f"Bearer {OPERATOR}")
    await use.write()
    assert await last_used(database, operator) == [NOON]
