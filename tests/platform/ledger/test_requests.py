"""Requests are found by what they were, page by page, and no page looks at more rows than it may."""

import csv
import io
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text, update

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.ledger import service, wanted
from loraplex.platform.ledger.wanted import State, Wanted
from support.meters import Clock, metering, new_tenant, request
from support.services import OPERATOR, Api, bearer, sqlite_only
from support.usage import USER, fill, tenant_id

START = datetime(2026, 11, 10, 22, 30, 15, 500_000, tzinfo=UTC)
REQUESTS = "/api/v1/requests"


async def numbers(api: Api, key: str, query: str, limit: int = 1000) -> list[int]:
    """Of the requests of `fill`, newest first, read to the last page; a running one is -1."""
    seen: list[int] = []
    before = ""
    while True:
        answer = await api.client.get(
            f"{REQUESTS}?{query}&limit={limit}{before}", headers=bearer(key)
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["data"]) <= limit
        for row in page["data"]:
            running = row["state"] == "reserved"
            seen.append(-1 if running else int(row["answer_id"].removeprefix("cmpl-")))
        if page["next"] is None:
            return seen
        before = f"&before={page['next']}"


async def test_filters(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 30, timedelta(seconds=10))
    async with metering(api.database, Clock(START + timedelta(hours=1))) as own:
        await own.reserve(request(acme)._replace(endpoint="chat"))
    async with api.database.main.writing(EVERY_TENANT) as session:
        slow = update(LedgerEntry).where(LedgerEntry.answer_id.in_(["cmpl-4", "cmpl-20"]))
        await session.execute(slow.values(total_ms=9000.0))
    at = [(START + n * timedelta(seconds=10)).isoformat().replace("+00:00", "Z") for n in range(30)]
    every = range(29, -1, -1)
    cases: dict[str, list[int]] = {
        "": [-1, *every],
        "adapter=fox": [n for n in every if n % 3 == 1],
        f"key={USER}": [n for n in every if n // 2 % 3 == 2],
        f"key={USER}&adapter=fox": [n for n in every if n // 2 % 3 == 2 and n % 3 == 1],
        "state=reserved": [-1],
        "state=reserved&endpoint=completions": [],
        "state=settled": list(every),
        "state=reaped": [],
        "finish_reason=error": [n for n in every if n % 5 == 0],
        "finish_reason=error&adapter=owl": [n for n in every if n % 5 == 0 and n % 3 == 2],
        "endpoint=chat": [-1],
        "slower_than_ms=8999": [20, 4],
        "slower_than_ms=9000": [],
        "answer=cmpl-7&endpoint=completions": [7],
        "answer=cmpl-7&endpoint=chat": [],
        f"since={at[7]}&until={at[9]}": [8, 7],
        f"since={at[27]}&state=settled": [29, 28, 27],
        "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z&endpoint=chat": [-1],
        "until=0001-01-01T00:00:00Z": [],
    }
    other = await api.tenant("globex")
    for query, expected in cases.items():
        assert await numbers(api, key, query) == expected, query
        assert await numbers(api, OPERATOR, query) == expected, query
        assert await numbers(api, other, query) == [], query
    # A page looks at so many rows; what comes later is on a following one.
    monkeypatch.setattr(wanted, "MOST_SEEN", 11)
    for query, expected in cases.items():
        assert await numbers(api, key, query, limit=7) == expected, query


async def test_pages_do_not_move_while_requests_come(api: Api) -> None:
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 9, timedelta(seconds=1))
    first = (await api.client.get(f"{REQUESTS}?limit=4", headers=bearer(key))).json()
    await fill(api.database, acme, START + timedelta(hours=1), 5, timedelta(seconds=1))
    rest = await numbers(api, key, f"before={first['next']}")
    assert [row["answer_id"] for row in first["data"]] == [f"cmpl-{n}" for n in (8, 7, 6, 5)]
    assert rest == [4, 3, 2, 1, 0]


async def test_a_request_by_its_id_is_its_tenants_own(api: Api) -> None:
    key, other = await api.tenant("acme"), await api.tenant("globex")
    await fill(api.database, await tenant_id(api.database, "acme"), START, 1, timedelta())
    (row,) = (await api.client.get(REQUESTS, headers=bearer(key))).json()["data"]
    for who in (key, OPERATOR):
        answer = await api.client.get(f"{REQUESTS}/{row['id']}", headers=bearer(who))
        assert answer.json() == row
    absent = str(uuid4())
    for who, id_ in ((other, row["id"]), (other, absent), (OPERATOR, absent), (key, "no-id")):
        answer = await api.client.get(f"{REQUESTS}/{id_}", headers=bearer(who))
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no request {id_!r}."


async def test_csv_has_every_row_and_no_formula(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EXPORT_PAGE", 3)
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 8, timedelta(seconds=1))
    async with api.database.main.writing(EVERY_TENANT) as session:
        formula = update(LedgerEntry).where(LedgerEntry.answer_id == "cmpl-1")
        await session.execute(formula.values(adapter='=HYPERLINK("x")'))
    answer = await api.client.get(f"{REQUESTS}?format=csv", headers=bearer(key))
    assert answer.headers["content-type"].startswith("text/csv")
    assert "requests.csv" in answer.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(answer.text)))
    rows = (await api.client.get(REQUESTS, headers=bearer(key))).json()["data"]
    assert [line["id"] for line in table] == [row["id"] for row in rows]
    assert set(table[0]) == set(rows[0])
    assert [line["total_ms"] for line in table] == ["500.0"] * 8
    (strange,) = [line for line in table if line["answer_id"] == "cmpl-1"]
    assert strange["adapter"] == '\'=HYPERLINK("x")'


@sqlite_only
async def test_what_cannot_be_asked(api: Api) -> None:
    key = await api.tenant("acme")
    for query in (
        "state=done", "slower_than_ms=-1", "slower_than_ms=x", "since=x", "limit=1001", "format=xml",
        "before=x", "key=%00", "since=0001-01-01T00:00:00%2B14:00",
    ):  # fmt: skip
        answer = await api.client.get(f"{REQUESTS}?{query}", headers=bearer(key))
        assert answer.status_code == 400, query


async def test_every_plan_uses_an_index(database: Database) -> None:
    """None reads the table from one end to the other, and none sorts it."""
    tenant = await new_tenant(database)
    await fill(database, tenant, START, 30, timedelta(seconds=1))
    some = datetime(2026, 11, 10, tzinfo=UTC)
    cases = [
        Wanted(tenant_id=tenant),
        Wanted(tenant_id=tenant, adapter="fox"),
        Wanted(tenant_id=tenant, key="key000000001"),
        Wanted(tenant_id=tenant, finish_reason="error", before=uuid4()),
        Wanted(tenant_id=tenant, state=State.RESERVED),
        Wanted(tenant_id=tenant, since=some),
        Wanted(tenant_id=tenant, answer_id="cmpl-1"),
        Wanted(tenant_id=None),
        Wanted(tenant_id=None, adapter="fox"),
        Wanted(tenant_id=None, state=State.RESERVED),
        Wanted(tenant_id=None, answer_id="cmpl-1"),
    ]
    is_postgres = database.main.engine.dialect.name == "postgresql"
    explain = "EXPLAIN" if is_postgres else "EXPLAIN QUERY PLAN"
    async with database.main.connection() as connection:
        if is_postgres:
            # Of so few rows the best way is to read all; with it ruled out only an index is left.
            for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        for case in cases:
            floor = case.floor()
            for query in (case.rows(None).limit(10), *(() if floor is None else (floor,))):
                sql = str(
                    query.compile(connection.sync_engine, compile_kwargs={"literal_binds": True})
                )
                plan = str((await connection.exec_driver_sql(f"{explain} {sql}")).all())
                assert "Index" in plan if is_postgres else "USING" in plan, (case, plan)
                assert "Seq Scan" not in plan, (case, plan)
                # How few rows an operator's filter finds decides there.
                unsure = is_postgres and case.tenant_id is None
                if case.state is None and case.answer_id is None and not unsure:
                    assert "Sort" not in plan, (case, plan)
                    assert "TEMP B-TREE" not in plan, (case, plan)
                # PostgreSQL decides this by what is in the table.
                if case.state is State.RESERVED and not is_postgres:
                    assert "ix_ledger_reserved" in plan, plan
                if case.answer_id is not None and not is_postgres:
                    assert "ix_ledger_answer_id" in plan, plan
