"""How long, and how much of, responses are kept."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import delete

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import BadRequestError, NotFoundError
from loraplex.platform.responses.items import InputText, MessageItem
from loraplex.platform.responses.retention import ResponseRetention
from loraplex.platform.responses.store import Keeping, ResponseStore
from support.dialects import begun_response

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


async def tenant(database: Database, name: str) -> Principal:
    async with database.main.writing(EVERY_TENANT) as session:
        row = Tenant(name=name)
        session.add(row)
        await session.flush()
        return Principal(actor_id="k", tenant_id=row.id, tenant_name=name)


async def keep(
    store: ResponseStore, owner: Principal, number: int, chain: list[str], text: str = "x"
) -> str:
    assert owner.tenant_id is not None
    name = f"resp_{number:024x}"
    made = msgspec.structs.replace(begun_response(), id=name, status="completed")
    asked = MessageItem(id=f"msg_{number}", role="user", content=[InputText(text)])
    await store.keep(owner.tenant_id, "tiny", made, [asked], chain)
    return name


def remaining(observed: list[int]) -> Callable[[str, int], None]:
    return lambda _, count: observed.append(count)


async def test_what_is_built_on_stays_as_long_as_what_builds_on_it(database: Database) -> None:
    clock, removed, ending = Clock(), list[int](), asyncio.Event()
    store = ResponseStore(database, Keeping(30, 10**9), clock)
    retention = ResponseRetention(database, store, remaining(removed), clock)
    owner = await tenant(database, "acme")
    root, lone = [await keep(store, owner, n, []) for n in (1, 2)]
    clock.now += timedelta(days=20)
    leaf = await keep(store, owner, 3, [root])
    clock.now += timedelta(days=20)
    # Forty days on, and before anything swept.
    with pytest.raises(NotFoundError):
        await store.get(owner, lone)
    assert [item.id for item in (await store.chain(owner, leaf)).items] == ["msg_1", "msg_3"]
    assert await retention.sweep(ending) == 1
    assert (await store.get(owner, root)).id == root
    clock.now += timedelta(days=11)
    assert await retention.sweep(ending) == 2
    with pytest.raises(BadRequestError):
        await store.chain(owner, leaf)
    assert removed == [1, 2]


async def test_of_who_has_too_much_the_oldest_go(database: Database) -> None:
    clock, ending = Clock(), asyncio.Event()
    store = ResponseStore(database, Keeping(30, 6000), clock)
    retention = ResponseRetention(database, store, remaining([]), clock)
    crowded, other = [await tenant(database, name) for name in ("acme", "globex")]
    names = []
    for n in range(1, 6):
        clock.now += timedelta(hours=1)
        names.append(await keep(store, crowded, n, [], "x" * 1000))  # about 1.8 kB each
    spared = await keep(store, other, 9, [])
    assert await retention.sweep(ending) == 2
    for gone in names[:2]:
        with pytest.raises(NotFoundError):
            await store.get(crowded, gone)
    for kept in names[2:]:
        assert (await store.get(crowded, kept)).id == kept
    assert (await store.get(other, spared)).id == spared
    assert await retention.sweep(ending) == 0


async def test_much_that_comes_at_once_wakes_the_chore(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraplex.platform.responses.store.UNNOTICED_BYTES", 2500)
    store = ResponseStore(database, Keeping(30, 2000))
    swept = asyncio.Event()
    retention = ResponseRetention(database, store, lambda *_: swept.set())
    ending = asyncio.Event()
    chore = asyncio.create_task(retention.run(ending))
    owner = await tenant(database, "acme")
    names = [await keep(store, owner, n, [], "x" * 1000) for n in (1, 2)]
    await swept.wait()
    ending.set()
    await chore
    with pytest.raises(NotFoundError):
        await store.get(owner, names[0])


async def test_a_tenant_without_rows_of_its_own_sees_none(database: Database) -> None:
    store = ResponseStore(database, Keeping(30, 10**9))
    owner, other = [await tenant(database, name) for name in ("acme", "globex")]
    name = await keep(store, owner, 1, [])
    confined = Principal(actor_id="c", tenant_id=owner.tenant_id, adapters=frozenset({"a"}))
    for stranger in (other, confined, Principal(actor_id="n", tenant_id=UUID(int=1))):
        with pytest.raises(NotFoundError):
            await store.get(stranger, name)
        with pytest.raises(NotFoundError):
            await store.delete(stranger, name)
        with pytest.raises(BadRequestError):
            await store.chain(stranger, name)
    assert (await store.get(owner, name)).id == name


async def test_a_chain_that_is_too_large_to_be_read_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraplex.platform.responses.store.LARGEST_CHAIN", 3500)
    store = ResponseStore(database, Keeping(30, 10**9))
    owner = await tenant(database, "acme")
    first = await keep(store, owner, 1, [], "x" * 1000)
    second = await keep(store, owner, 2, [first], "x" * 1000)
    assert (await store.chain(owner, first)).ids == [first]
    monkeypatch.setattr("loraplex.platform.responses.store.LARGEST_CHAIN", 2000)
    with pytest.raises(BadRequestError, match="more than 2000 bytes") as refused:
        await store.chain(owner, second)
    assert refused.value.param == "previous_response_id"


async def test_a_tenant_that_was_deleted_meanwhile_is_told_so(database: Database) -> None:
    store = ResponseStore(database, Keeping(30, 10**9))
    owner = await tenant(database, "acme")
    first = await keep(store, owner, 1, [])
    async with database.main.writing(EVERY_TENANT) as session:
        await session.execute(delete(Tenant))
    for chain in ([], [first]):
        with pytest.raises(NotFoundError, match="deleted"):
            await keep(store, owner, 2, chain)
