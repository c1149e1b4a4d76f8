"""Owns filling a database with tenants, keys, adapters and a ledger of any size, each in its fastest way."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from sqlalchemy import Table

from loraplex.platform.auth.keys import generate, hash_token
from loraplex.platform.db.database import open_database
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.db.models import (
    Adapter,
    AdapterAlias,
    AdapterVersion,
    ApiKey,
    Blob,
    LedgerEntry,
    Tenant,
)
from loraplex.platform.metering.identity import new_id
from loraplex.platform.settings import Settings

DAYS = 90  # over which the ledger is spread, up to now
_BATCH = 20_000
# Ledger rows that are made here, 90 us each; the database makes the others from them, 15 us each with their indexes.
_SEED = 50_000
_MANAGES = ["adapters:read", "adapters:write", "usage", "admin"]
_RUNS = ["inference"]
_UNITS = {"m": "minute", "h": "hour", "d": "day"}
_STARTS = {"m": "%Y-%m-%d %H:%M:00", "h": "%Y-%m-%d %H:00:00", "d": "%Y-%m-%d 00:00:00"}

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each there is."""

    tenants: int
    adapters: int
    rows: int


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant, its two keys and the names of its adapters."""

    id: UUID
    name: str
    manages: str
    runs: str
    runs_id: str
    adapters: tuple[str, ...]


def fill(settings: Settings, base: str, fingerprint: str, size: Size) -> list[Customer]:
    """Migrate an empty database and fill it; versions share one blob of a tenant, which has no bytes."""
    asyncio.run(_migrate(settings))
    return asyncio.run(_fill(settings, base, fingerprint, size))


async def _migrate(settings: Settings) -> None:
    database = open_database(settings)
    await upgrade(database)
    await database.close()


async def _fill(settings: Settings, base: str, fingerprint: str, size: Size) -> list[Customer]:
    now = datetime.now(UTC)
    each = max(1, size.adapters // size.tenants)
    customers, keys = list[Customer](), list[Row]()
    for number in range(size.tenants):
        manages, runs = generate(), generate()
        names = tuple(f"adapter-{n:03}" for n in range(each))
        name = f"tenant-{number:05}"
        id_ = new_id(now)
        customers.append(Customer(id_, name, manages.token, runs.token, runs.id, names))
        for key, scopes in ((manages, _MANAGES), (runs, _RUNS)):
            keys.append(
                {
                    "id": key.id, "tenant_id": id_, "name": scopes[0], "created_at": now,
                    "sha256": hash_token(key.token), "last4": key.token[-4:], "scopes": scopes,
                }
            )  # fmt: skip
    bulk = _Postgres(settings) if settings.database_url else _Sqlite(settings)
    await bulk.insert(
        Tenant.__table__,
        ({"id": c.id, "created_at": now, "name": c.name, "weight": 1.0} for c in customers),
    )
    await bulk.insert(ApiKey.__table__, keys)
    await _fill_adapters(bulk, customers, base, fingerprint, now)
    copies = max(1, size.rows // _SEED)
    rows = _ledger(customers, base, size.rows // copies, now)
    await bulk.insert(LedgerEntry.__table__, rows)
    if copies > 1:
        await bulk.multiply(copies, timedelta(days=DAYS) / size.rows)
    await bulk.add_up()
    return customers


async def _fill_adapters(
    bulk: "_Bulk", customers: list[Customer], base: str, fingerprint: str, now: datetime
) -> None:
    blobs = {c.id: new_id(now) for c in customers}
    ids = {(c.id, name): (new_id(now), new_id(now)) for c in customers for name in c.adapters}
    common = {"created_at": now}
    await bulk.insert(
        Blob.__table__,
        (
            common | {"id": id_, "tenant_id": t, "sha256": id_.hex * 2, "size": 0, "state": "ready"}
            for t, id_ in blobs.items()
        ),
    )
    await bulk.insert(
        Adapter.__table__,
        (
            common | {"id": a, "tenant_id": t, "name": n, "last_version": 1, "pinned": False}
            for (t, n), (a, _) in ids.items()
        ),
    )
    version = {
        "n": 1, "base_model": base, "base_fingerprint": fingerprint, "config": b"{}", "report": {},
        "rank": 8, "state": "ready", "created_by": "filled000000",
    }  # fmt: skip
    await bulk.insert(
        AdapterVersion.__table__,
        (
            common | version
            | {"id": v, "tenant_id": t, "adapter_id": a, "digest": v.hex * 2, "blob_id": blobs[t]}
            for (t, _), (a, v) in ids.items()
        ),
    )  # fmt: skip
    await bulk.insert(
        AdapterAlias.__table__,
        (
            {
                "tenant_id": t, "adapter_id": a, "alias": "prod", "version_id": v,
                "updated_at": now, "updated_by": "filled000000",
            }
            for (t, _), (a, v) in ids.items()
        ),
    )  # fmt: skip


def _ledger(customers: list[Customer], base: str, rows: int, now: datetime) -> Iterator[Row]:
    """Requests of all tenants in turn."""
    step = timedelta(days=DAYS) / max(rows, 1)
    for number in range(rows):
        turn, who = divmod(number, len(customers))
        customer = customers[who]
        at = now - step * (rows - number)
        yield {
            "id": new_id(at), "created_at": at, "tenant_id": customer.id,
            "key_id": customer.runs_id, "answer_id": f"cmpl-{number:024x}",
            "endpoint": "completions", "state": "settled", "choices": 1, "base_model": base,
            "adapter": customer.adapters[turn % len(customer.adapters)], "version": 1,
            "finish_reason": "error" if number % 997 == 0 else "stop", "prompt_tokens": 100,
            "cached_tokens": 16, "output_tokens": 50, "reserved_tokens": 0, "reserved_nanos": 0,
            "input_nanos": 100, "cached_nanos": 10, "output_nanos": 400, "cost_nanos": 28_560,
            "total_ms": 100.0 + number % 4000, "preemptions": 0,
        }  # fmt: skip


class _Bulk:
    """One way to insert many rows."""

    async def insert(self, table: object, rows: Iterable[Row]) -> None:
        """All rows; those of a table have the same columns."""
        assert isinstance(table, Table)
        columns: tuple[str, ...] = ()
        batch: list[tuple[object, ...]] = []
        for row in rows:
            columns = columns or tuple(row)
            batch.append(tuple(map(self.value, row.values())))
            if len(batch) == _BATCH:
                await self.write(table.name, columns, batch)
                batch = []
        if batch:
            await self.write(table.name, columns, batch)

    def value(self, value: object) -> object:
        """As the driver takes it."""
        return json.dumps(value) if isinstance(value, list | dict) else value

    async def write(
        self, table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]
    ) -> None:
        raise NotImplementedError

    async def multiply(self, copies: int, step: timedelta) -> None:
        """Make `copies` of every row of the ledger, the row itself the first and latest, `step` apart."""
        raise NotImplementedError

    async def add_up(self) -> None:
        """The sums of the ledger, and statistics for the planner."""
        raise NotImplementedError


# Of a row of the ledger all but these is copied.
_NEW = ("id", "created_at", "answer_id")


def _multiplied(id_: str, at: str, answer: str, numbers: str) -> str:
    """The statement that copies the ledger, given how the new values and the copies' numbers `n` are written."""
    same = ", ".join(c.name for c in LedgerEntry.__table__.columns if c.name not in _NEW)
    return (
        f"INSERT INTO ledger (id, created_at, answer_id, {same})"
        f" SELECT {id_}, {at}, {answer}, {same} FROM ledger CROSS JOIN ({numbers}) AS copy"
    )


_ADD_UP = (
    "INSERT INTO usage_rollup (unit, tenant_id, start, key_id, base_model, adapter, version, requests,"
    " errors, prompt_tokens, cached_tokens, output_tokens, cost_nanos)"
    " SELECT '{unit}', tenant_id, {start} AS at, key_id, base_model, coalesce(adapter, ''),"
    " coalesce(version, 0), count(*), sum(CASE WHEN finish_reason = 'error' THEN 1 ELSE 0 END),"
    " sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), sum(cost_nanos)"
    " FROM ledger GROUP BY tenant_id, at, key_id, base_model, adapter, version"
)


class _Sqlite(_Bulk):
    """As SQLAlchemy writes them: ids as hex, moments as text."""

    def __init__(self, settings: Settings) -> None:
        (self._file,) = Path(settings.data_dir).glob("loraplex.db")

    def value(self, value: object) -> object:
        if isinstance(value, UUID):
            return value.hex
        if isinstance(value, datetime):
            return value.strftime("%Y-%m-%d %H:%M:%S.%f")
        return super().value(value)

    async def write(
        self, table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]
    ) -> None:
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        self._run(lambda connection: connection.executemany(statement, rows))

    async def multiply(self, copies: int, step: timedelta) -> None:
        back = f"n * {step.total_seconds():.6f}"
        statement = _multiplied(
            f"printf('%012x', CAST(((julianday(created_at) - 2440587.5) * 86400 - {back}) * 1000 AS INTEGER))"
            " || '7' || lower(substr(hex(randomblob(2)), 2) || '8' || substr(hex(randomblob(8)), 2))",
            f"strftime('%Y-%m-%d %H:%M:%f', created_at, '-' || ({back}) || ' seconds') || '000'",
            "'cmpl-' || lower(hex(randomblob(12)))",
            f"WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < {copies - 1})"
            " SELECT n FROM c",
        )

        def work(connection: sqlite3.Connection) -> None:
            indexes = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'ledger' AND type = 'index' AND sql <> ''"
            ).fetchall()
            for name, _ in indexes:
                connection.execute(f"DROP INDEX {name}")
            connection.execute(statement)
            for _, sql in indexes:
                connection.execute(sql)

        self._run(work)

    async def add_up(self) -> None:
        for unit, form in _STARTS.items():
            start = f"strftime('{form}.000000', created_at)"
            statement = _ADD_UP.format(unit=unit, start=start)
            self._run(lambda connection, sql=statement: connection.execute(sql))
        self._run(lambda connection: connection.execute("ANALYZE"))

    def _run(self, work: Callable[[sqlite3.Connection], object]) -> None:
        connection = sqlite3.connect(self._file)
        # Nothing here must survive a power failure.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        with connection:
            work(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()


class _Postgres(_Bulk):
    """COPY."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url

    async def write(
        self, table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]
    ) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.copy_records_to_table(table, columns=columns, records=rows)
        await connection.close()

    async def multiply(self, copies: int, step: timedelta) -> None:
        back = f"n * interval '{step.total_seconds():.6f} seconds'"
        random = "replace(gen_random_uuid()::text, '-', '')"
        statement = _multiplied(
            f"(lpad(to_hex((extract(epoch FROM created_at - {back}) * 1000)::bigint), 12, '0') || '7' ||"
            f" substr({random}, 1, 3) || '8' || substr({random}, 1, 15))::uuid",
            f"created_at - {back}",
            f"'cmpl-' || substr({random}, 1, 24)",
            f"SELECT n FROM generate_series(1, {copies - 1}) AS n",
        )
        connection = await asyncpg.connect(self._url)
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'ledger'"
            " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
        for index in indexes:
            await connection.execute(f'DROP INDEX "{index["indexname"]}"')
        await connection.execute(statement, timeout=3600)
        for index in indexes:
            await connection.execute(index["indexdef"], timeout=3600)
        await connection.close()

    async def add_up(self) -> None:
        connection = await asyncpg.connect(self._url)
        for unit, name in _UNITS.items():
            start = f"date_trunc('{name}', created_at, 'UTC')"
            await connection.execute(_ADD_UP.format(unit=unit, start=start), timeout=3600)
        await connection.execute("VACUUM ANALYZE", timeout=3600)
        await connection.close()
