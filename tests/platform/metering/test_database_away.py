"""A database that goes away and comes back: new requests are told so, what has ended is written later, once."""

import asyncio

import pytest
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import OperationalError

from loraplex.platform.db.database import Database
from loraplex.platform.errors import DatabaseUnavailableError
from loraplex.platform.metering import service as service_module
from loraplex.platform.metering.settlement import RESERVED, SETTLED
from loraplex.platform.metering.transaction import Decision, Transaction
from loraplex.platform.metering.work import Batch
from loraplex.platform.settings import Settings
from support.meters import count, ended, entries, meter_of, metering, new_tenant, request
from support.served import served
from support.services import sqlite_only


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LEAST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(service_module, "RETRY_SECONDS", 0.01)


class Outage:
    """While it lasts, no transaction can be begun, or none be committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lasts = False
        self.commits_break = self.breaks_once = False
        self.met = 0
        begin, commit = Connection.begin, RootTransaction.commit

        def beginning(connection: Connection) -> RootTransaction:
            if self.lasts or self.breaks_once:
                self.met += 1
                self.breaks_once = False
                raise ConnectionRefusedError
            return begin(connection)

        def committing(transaction: RootTransaction) -> None:
            commit(transaction)
            if self.commits_break:
                self.met += 1
                self.commits_break = False
                raise ConnectionResetError

        monkeypatch.setattr(Connection, "begin", beginning)
        monkeypatch.setattr(RootTransaction, "commit", committing)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)


async def test_what_ends_meanwhile_is_written_when_it_is_back(
    database: Database, outage: Outage
) -> None:
    tenant = await new_tenant(database, max_concurrent=9)
    told: list[bytes] = []
    async with metering(database) as own:
        kept = [await own.reserve(request(tenant)) for _ in range(3)]
        outage.lasts = True
        for reservation in kept[:2]:
            own.settle_soon(ended(reservation.id), told.extend)
        with pytest.raises(DatabaseUnavailableError):
            await own.reserve(request(tenant))
        waiting = asyncio.create_task(own.settle(ended(kept[2].id)))
        while outage.met < 5:  # noqa: ASYNC110 - counting sets no event
            await asyncio.sleep(0.005)
        assert not waiting.done()
        assert told == []
        outage.lasts = False
        await waiting
        await own.reserve(request(tenant))
    assert sorted(told) == sorted(reservation.id.bytes for reservation in kept[:2])
    assert await count(database, SETTLED) == 3
    assert (await meter_of(database, tenant)).running == 1


async def test_a_commit_that_may_have_happened_leaves_no_reservation(
    database: Database, outage: Outage
) -> None:
    tenant = await new_tenant(database, max_concurrent=9)
    async with metering(database) as own:
        kept = await own.reserve(request(tenant))
        outage.commits_break = True
        with pytest.raises(DatabaseUnavailableError):
            await own.reserve(request(tenant))
        outage.commits_break = True
        await own.settle(ended(kept.id))
    assert outage.met == 2
    assert await count(database, RESERVED) == 0
    assert [row.finish_reason for row in await entries(database)] == ["stop", "cancelled"]
    meter = await meter_of(database, tenant)
    assert (meter.running, meter.month_tokens) == (0, 7)


async def test_closing_writes_what_is_left_even_if_it_has_to_try_again(
    database: Database, outage: Outage
) -> None:
    tenant = await new_tenant(database)
    async with metering(database) as own:
        kept = [await own.reserve(request(tenant)) for _ in range(5)]
        outage.lasts = True
        for reservation in kept:
            own.settle_soon(ended(reservation.id))
        asyncio.get_running_loop().call_later(0.1, lambda: setattr(outage, "lasts", False))
    assert await count(database, SETTLED) == 5


async def test_a_connection_that_broke_while_idle_costs_no_request(
    database: Database, outage: Outage
) -> None:
    tenant = await new_tenant(database)
    async with metering(database) as own:
        await own.reserve(request(tenant))
        outage.breaks_once = True
        await own.reserve(request(tenant))
    assert outage.met == 1
    assert await count(database, RESERVED) == 2


async def test_one_that_cannot_be_written_does_not_harm_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await new_tenant(database)
    write = Transaction.write

    def writing(self: Transaction, batch: Batch) -> list[Decision]:
        if any(each.request.answer_id == "poison" for each in batch.reserves):
            raise ZeroDivisionError
        return write(self, batch)

    async with metering(database) as own:
        kept = await own.reserve(request(tenant))
        monkeypatch.setattr(Transaction, "write", writing)
        results = await asyncio.gather(
            own.reserve(request(tenant)),
            own.reserve(request(tenant)._replace(answer_id="poison")),
            own.reserve(request(tenant)),
            own.settle(ended(kept.id)),
            return_exceptions=True,
        )
    assert isinstance(results[1], ZeroDivisionError)
    assert (await count(database, RESERVED), await count(database, SETTLED)) == (2, 1)


async def test_transactions_in_each_others_way_are_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await new_tenant(database)
    write, attempts = Transaction.write, 0
    error = Exception()
    error.sqlstate = "40P01"  # type: ignore[attr-defined]  # as asyncpg's have

    def writing(self: Transaction, batch: Batch) -> list[Decision]:
        nonlocal attempts
        attempts += 1
        result = write(self, batch)
        if attempts < 4:
            raise OperationalError("", None, error)
        return result

    monkeypatch.setattr(Transaction, "write", writing)
    async with metering(database) as own:
        await own.reserve(request(tenant))
    assert attempts == 4
    assert await count(database, RESERVED) == 1


async def test_no_more_is_kept_than_there_is_room_for(
    database: Database, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_PENDING", 3)
    tenant = await new_tenant(database)
    async with metering(database) as own:
        kept = [await own.reserve(request(tenant)) for _ in range(5)]
        outage.lasts = True
        first = asyncio.create_task(own.settle(ended(kept[0].id)))
        await asyncio.sleep(0)
        for reservation in kept[1:]:
            own.settle_soon(ended(reservation.id))
        with pytest.raises(ConnectionRefusedError):
            await first
        outage.lasts = False
    assert await count(database, SETTLED) == 3
    assert await count(database, RESERVED) == 2


@sqlite_only
async def test_a_client_gets_a_clean_503(settings: Settings, outage: Outage) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        assert (await service.complete(key, max_tokens=1)).status_code == 200
        outage.lasts = True
        answer = await service.complete(key, max_tokens=1)
        outage.lasts = False
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert (await service.complete(key, max_tokens=1)).status_code == 200
