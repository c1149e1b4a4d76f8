"""The audit trail tells who changed what; tenants see their own part, and nobody changes it."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from loraplex.platform.audit import trail
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import SYSTEM, record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import AuditEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import OPERATOR, Api, bearer, sqlite_only

AUDIT = "/api/v1/audit"


async def acts(api: Api, key: str, query: str = "") -> list[dict[str, object]]:
    answer = await api.client.get(f"{AUDIT}{query}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, object]] = answer.json()["data"]
    return rows


async def write(
    database: Database,
    tenant: str,
    *actions: str,
    before: dict[str, object] | None = None,
    after: dict[str, object] | None = None,
) -> UUID:
    """Entries of a tenant, each in its own transaction; the tenant's id."""
    async with database.main.reading(EVERY_TENANT) as session:
        owner = await session.scalar(select(Tenant.id).where(Tenant.name == tenant))
    assert owner is not None
    actor = Principal(actor_id="key", actor_name="ci", address="192.0.2.7", tenant_id=owner)
    for action in actions:
        async with database.main.writing(owner) as session:
            record(session, actor, action, "thing", before=before, after=after, note="x")
    return owner


async def test_an_entry_says_who_did_what_to_what(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    entry = (await acts(api, OPERATOR, "?action=tenant.create"))[0]
    assert (entry["target"], entry["tenant"], entry["by_operator"]) == ("acme", "acme", True)
    at, price = datetime(2026, 1, 2, tzinfo=UTC), Decimal("0.10")
    before: dict[str, object] = {"at": at, "price": price, "id": UUID(int=1), "none": None}
    await write(api.database, "acme", "limit.set", before=before, after={"at": None})
    (entry,) = await acts(api, key, "?action=limit.set")
    assert (entry["actor"], entry["actor_name"], entry["address"]) == ("key", "ci", "192.0.2.7")
    assert entry["before"] == {
        "at": "2026-01-02T00:00:00Z",
        "price": "0.10",
        "id": str(UUID(int=1)),
        "none": None,
    }
    assert (entry["after"], entry["detail"]) == ({"at": None}, {"note": "x"})
    assert entry["by_operator"] is False


async def test_tenants_see_their_own_and_operators_all(api: Api) -> None:
    mine, other = await api.tenant("acme", "admin"), await api.tenant("globex", "admin")
    await write(api.database, "acme", "a.one")
    await write(api.database, "globex", "b.one")
    async with api.database.main.writing(EVERY_TENANT) as session:
        record(session, SYSTEM, "system.act", "everything")
    assert {entry["tenant"] for entry in await acts(api, mine)} == {"acme"}
    assert {entry["tenant"] for entry in await acts(api, other)} == {"globex"}
    assert {entry["tenant"] for entry in await acts(api, OPERATOR)} == {"acme", "globex", ""}
    of_globex = await acts(api, OPERATOR, "?tenant=globex")
    assert of_globex == await acts(api, OPERATOR, "?tenant=globex&limit=1000")
    assert {entry["tenant"] for entry in of_globex} == {"globex"}
    hidden = await api.client.get(f"{AUDIT}?tenant=globex", headers=bearer(mine))
    absent = await api.client.get(f"{AUDIT}?tenant=nobody", headers=bearer(mine))
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("globex", "*") == absent.text.replace("nobody", "*")
    lesser = await api.tenant("acme", "inference", "adapters", "usage")
    assert (await api.client.get(AUDIT, headers=bearer(lesser))).status_code == 403
    assert (await api.client.get(AUDIT)).status_code == 401


@sqlite_only
async def test_tenants_do_not_see_where_operators_sit(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    boss = Principal(actor_id="boss", actor_name="b", is_operator=True, address="192.0.2.9")
    owner = await write(api.database, "acme", "a.one")
    async with api.database.main.writing(EVERY_TENANT) as session:
        record(session, boss, "tenant.change", "acme", owner)
    theirs = (await acts(api, key, "?actor=boss"))[0]
    assert (theirs["actor"], theirs["by_operator"], theirs["address"]) == ("boss", True, "")
    assert (await acts(api, OPERATOR, "?actor=boss"))[0]["address"] == "192.0.2.9"


async def test_filters_and_pages(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    owner = await write(api.database, "acme", "alias.set", "alias.delete", "aliased.set", "x.y")
    async with api.database.main.writing(owner) as session:
        record(session, SYSTEM, "alias.set", "other", owner)
    found = await acts(api, key, "?action=alias.")
    assert [entry["action"] for entry in found] == ["alias.set", "alias.delete", "alias.set"]
    assert await acts(api, key, "?action=alias%25") == []
    assert await acts(api, key, "?action=alias_set") == []
    assert [e["target"] for e in await acts(api, key, "?action=alias.set&target=other")] == [
        "other"
    ]
    assert [e["target"] for e in await acts(api, key, "?actor=system")] == ["other"]
    pages: list[object] = []
    query = "?limit=2"
    while True:
        page = (await api.client.get(f"{AUDIT}{query}", headers=bearer(key))).json()
        assert len(page["data"]) <= 2
        pages += page["data"]
        if page["next"] is None:
            break
        query = f"?limit=2&before={page['next']}"
    assert pages == await acts(api, key)
    assert len(pages) >= 7  # with those of making the tenant and the key


async def test_moments(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    await write(api.database, "acme", "m.one", "m.two", "m.three")
    times = [str(entry["created_at"]) for entry in await acts(api, key, "?action=m.")]
    since = await acts(api, key, f"?action=m.&since={times[1]}")
    assert [entry["action"] for entry in since] == ["m.three", "m.two"]
    until = await acts(api, key, f"?action=m.&until={times[1]}")
    assert [entry["action"] for entry in until] == ["m.one"]
    both = await acts(api, key, f"?action=m.&since={times[1]}&until={times[0]}")
    assert [entry["action"] for entry in both] == ["m.two"]
    # Without a zone it is UTC.
    naive = times[1].removesuffix("Z")
    assert await acts(api, key, f"?action=m.&since={naive}") == since
    for hostile in (
        "0001-01-01T00:00:00%2B14:00",
        "9999-12-31T23:59:59-12:00",
        "yesterday",
        "1e400",
    ):
        answer = await api.client.get(f"{AUDIT}?since={hostile}", headers=bearer(key))
        assert answer.status_code == 400, hostile
    assert await acts(api, key, "?action=m.&since=9999-12-31T23:59:59Z") == []
    assert await acts(api, key, "?action=m.&until=0001-01-01T00:00:00Z") == []


async def test_export(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await api.tenant("acme", "admin")
    monkeypatch.setattr(trail, "EXPORT_PAGE", 3)  # so that there are several pages
    await write(api.database, "acme", *("x.y",) * 7, after={"name": 'a "quoted", name'})
    expected = await acts(api, key, "?limit=1000")
    answer = await api.client.get(f"{AUDIT}?format=jsonl", headers=bearer(key))
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in answer.text.splitlines()] == expected
    answer = await api.client.get(f"{AUDIT}?format=csv&action=x.&limit=2", headers=bearer(key))
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="audit.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 7
    assert json.loads(rows[0]["after"]) == {"name": 'a "quoted", name'}
    assert (rows[0]["action"], rows[0]["tenant"], rows[0]["before"]) == ("x.y", "acme", "")
    assert rows[0]["created_at"] == expected[0]["created_at"]
    answer = await api.client.get(f"{AUDIT}?format=xml", headers=bearer(key))
    assert answer.status_code == 400


@sqlite_only
async def test_a_spreadsheet_finds_no_formula(api: Api) -> None:
    await api.tenant("acme", "admin")
    async with api.database.main.writing(EVERY_TENANT) as session:
        for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "\t=1", "\r=1"):
            actor = Principal(actor_id="key", actor_name=name, is_operator=True)
            record(session, actor, "f.x", name)
    answer = await api.client.get(f"{AUDIT}?format=csv&action=f.x", headers=bearer(OPERATOR))
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert len(rows) == 6
    assert all(row["actor_name"].startswith("'") and row["target"].startswith("'") for row in rows)


async def test_entries_stay_as_they_are(database: Database) -> None:
    async with database.main.writing(EVERY_TENANT) as session:
        tenant = Tenant(name="acme")
        session.add(tenant)
        await session.flush()
        record(session, SYSTEM, "a.b", "x", tenant.id)
    if database.is_split:
        pytest.skip("SQLite knows no rights")
    for statement in (
        update(AuditEntry).values(actor="nobody"),
        delete(AuditEntry),
        text("TRUNCATE audit"),
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.main.writing(tenant.id) as session:
                await session.execute(statement)
    async with database.main.writing(tenant.id) as session:
        record(session, SYSTEM, "a.c", "x", tenant.id)
    async with database.main.reading(tenant.id) as session:
        assert await session.scalar(select(func.count()).select_from(AuditEntry)) == 2


@sqlite_only
async def test_no_route_changes_the_trail(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    entry = (await acts(api, key))[0]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in (AUDIT, f"{AUDIT}/{entry['id']}"):
            for used in (key, OPERATOR):
                answer = await api.client.request(method, path, headers=bearer(used), json={})
                assert answer.status_code in (404, 405)
    assert await acts(api, key, f"?target={entry['target']}&action={entry['action']}") == [entry]
