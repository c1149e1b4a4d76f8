"""Sums of usage equal the ledger, however they are grouped and paged, and each tenant sees its own."""

import csv
import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.usage import service
from support.meters import entries, set_price
from support.services import OPERATOR, Api, bearer, sqlite_only
from support.usage import NUMBERS, fill, sums, tenant_id

START = datetime(2026, 11, 10, 22, 30, 15, tzinfo=UTC)
RANGE = "start=2026-11-10T22:00:00Z&end=2026-11-11T02:00:00Z"
_OF: dict[str, Callable[[LedgerEntry], object]] = {
    "key": lambda row: row.key_id,
    "adapter": lambda row: row.adapter,
    "version": lambda row: row.version,
    "base": lambda row: row.base_model,
}

Found = dict[tuple[object, ...], Counter[str]]


async def used(api: Api, key: str, query: str) -> dict[str, list[dict[str, object]]]:
    answer = await api.client.get(f"/api/v1/usage?{query}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    body: dict[str, list[dict[str, object]]] = answer.json()
    return body


def found(rows: list[dict[str, object]], *groups: str) -> Found:
    """By start and groups."""
    by_place: Found = {}
    for row in rows:
        place = (row["start"], *(row[name] for name in groups))
        assert place not in by_place
        numbers = {name: int(str(row[name])) for name in NUMBERS[:-1]}
        numbers["cost_nanos"] = round(float(str(row["cost"])) * 1e9)
        by_place[place] = Counter(numbers)
    return by_place


def expected(rows: list[LedgerEntry], seconds: int, *groups: str) -> Found:
    places: dict[tuple[object, ...], list[LedgerEntry]] = {}
    for row in rows:
        at = int(row.created_at.timestamp()) // seconds * seconds
        start = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        places.setdefault((start, *(_OF[name](row) for name in groups)), []).append(row)
    return {place: sums(of_place) for place, of_place in places.items()}


async def test_sums_equal_the_ledger_however_they_are_grouped(api: Api) -> None:
    key = await api.tenant("acme")
    other = await api.tenant("globex")
    await set_price(api.database, 100, 10, 400)
    acme, globex = [await tenant_id(api.database, name) for name in ("acme", "globex")]
    await fill(api.database, acme, START, 30, timedelta(minutes=4))
    await fill(api.database, globex, START, 4, timedelta(minutes=40))
    rows = await entries(api.database)
    own = [row for row in rows if row.tenant_id == acme]
    for width, seconds in (("1m", 60), ("1h", 3600), ("1d", 86400)):
        for groups in ((), ("key",), ("adapter", "version"), ("key", "adapter", "version", "base")):
            by = "".join(f"&group_by={name}" for name in groups)
            page = await used(api, key, f"{RANGE}&bucket_width={width}&limit=1000{by}")
            assert page["next"] is None
            assert found(page["data"], *groups) == expected(own, seconds, *groups)
    # A version means nothing without its adapter.
    page = await used(api, key, f"{RANGE}&group_by=version")
    assert found(page["data"], "adapter", "version") == expected(own, 86400, "adapter", "version")
    # One key, one adapter.
    page = await used(api, key, f"{RANGE}&key=key000000002&adapter=fox&bucket_width=1h")
    some = [r for r in own if (r.key_id, r.adapter) == ("key000000002", "fox")]
    assert found(page["data"]) == expected(some, 3600)
    # Each tenant sees its own; an operator all, by name, or one's.
    everybody = await used(api, OPERATOR, f"{RANGE}&group_by=tenant&bucket_width=1h&limit=1000")
    by_tenant = found(everybody["data"], "tenant")
    for name, owner, of in (("acme", acme, key), ("globex", globex, other)):
        alone = expected([row for row in rows if row.tenant_id == owner], 3600)
        assert {(p[0],): s for p, s in by_tenant.items() if p[1] == name} == alone
        page = await used(api, OPERATOR, f"{RANGE}&tenant={name}&bucket_width=1h")
        assert found(page["data"]) == alone
        page = await used(api, of, f"{RANGE}&bucket_width=1h")
        assert found(page["data"]) == alone
    foreign = await api.client.get("/api/v1/usage?tenant=globex", headers=bearer(key))
    absent = await api.client.get("/api/v1/usage?tenant=nobody", headers=bearer(key))
    assert foreign.status_code == 404
    assert foreign.text == absent.text.replace("nobody", "globex")


async def test_pages_stay_whole_while_requests_come(api: Api) -> None:
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 24, timedelta(minutes=5))
    query = f"{RANGE}&bucket_width=1h&group_by=key&group_by=adapter&group_by=version"
    before = found(
        (await used(api, key, f"{query}&limit=1000"))["data"], "key", "adapter", "version"
    )
    seen: list[dict[str, object]] = []
    after = ""
    for turn in range(100):
        page = await used(api, key, f"{query}&limit=4{after}")
        seen += page["data"]
        if turn < 3:
            # Older than what was seen, as old, and newer.
            await fill(api.database, acme, START, 9, timedelta(minutes=20))
        if page["next"] is None:
            break
        assert len(page["data"]) == 4
        after = f"&after={page['next']}"
    # `found` refuses what came twice.
    assert set(before) <= set(found(seen, "key", "adapter", "version"))
    for wrong in ("x", "", "WyIxIl0", "%C3%A4", page["next"] or "WyIxIiwiYSIsImIiLCJjIl0"):
        answer = await api.client.get(f"/api/v1/usage?{query}&after={wrong}", headers=bearer(key))
        assert answer.status_code == 400, wrong


async def test_csv_has_every_row_and_no_formula(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EXPORT_PAGE", 2)
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await set_price(api.database, 100, 10, 400)
    await fill(api.database, acme, START, 12, timedelta(minutes=10))
    query = f"{RANGE}&bucket_width=1h&group_by=adapter&limit=1000"
    answer = await api.client.get(f"/api/v1/usage?{query}&format=csv", headers=bearer(key))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(answer.text)))
    page = (await used(api, key, query))["data"]
    assert len(table) == len(page) > 2
    shown = [n for n in page[0] if n not in ("tenant", "key", "version", "base")]
    for line, row in zip(table, page, strict=True):
        assert list(line) == shown
        assert (line["start"], line["adapter"]) == (row["start"], row["adapter"] or "")
        assert float(line["cost"]) == row["cost"]
        assert int(line["output_tokens"]) == row["output_tokens"]


@sqlite_only
async def test_a_confined_key_sees_its_adapters_only(api: Api) -> None:
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 12, timedelta(minutes=1))
    for names, seen in ((["fox"], {"fox"}), (["fox", "tiny"], {"fox", None}), (["none"], set())):
        answer = await api.client.post(
            "/api/v1/tenants/acme/keys", headers=bearer(OPERATOR), json={"adapters": names}
        )
        confined = answer.json()["key"]
        page = await used(api, confined, f"{RANGE}&group_by=adapter")
        assert {row["adapter"] for row in page["data"]} == seen
        answer = await api.client.get("/api/v1/requests", headers=bearer(confined))
        assert {row["adapter"] for row in answer.json()["data"]} == seen
        answer = await api.client.get(
            "/v1/organization/usage/completions",
            params={"start_time": int(START.timestamp()), "group_by": "model"},
            headers=bearer(confined),
        )
        models = {r["model"] for b in answer.json()["data"] for r in b["results"]}
        assert models == {name or "tiny" for name in seen}
    rows = (await api.client.get("/api/v1/requests", headers=bearer(key))).json()["data"]
    hidden = next(row["id"] for row in rows if row["adapter"] == "owl")
    for who, status in ((key, 200), (confined, 404)):
        answer = await api.client.get(f"/api/v1/requests/{hidden}", headers=bearer(who))
        assert answer.status_code == status


@sqlite_only
async def test_what_cannot_be_asked(api: Api) -> None:
    key = await api.tenant("acme")
    for query, code in (
        ("start=2026-01-01T00:00:00Z&end=2026-01-03T00:00:00Z&bucket_width=1m", "too_many_buckets"),
        ("start=2024-01-01T00:00:00Z&end=2026-01-03T00:00:00Z", "too_many_buckets"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "invalid_request"),
        ("start=0001-01-01T00:00:00Z", "invalid_request"),
        ("end=0001-01-01T00:00:00%2B14:00", "invalid_request"),
        ("end=9999-12-31T23:59:59Z", "invalid_request"),
        ("bucket_width=2h", "invalid_request"),
        ("group_by=color", "invalid_request"),
        ("limit=0", "invalid_request"),
        ("adapter=%00", "invalid_request"),
    ):
        answer = await api.client.get(f"/api/v1/usage?{query}", headers=bearer(key))
        assert (answer.status_code, answer.json().get("code")) == (400, code), query
    assert (await used(api, key, ""))["data"] == []
    inferring = await api.tenant("acme", "inference")
    answer = await api.client.get("/api/v1/usage", headers=bearer(inferring))
    assert answer.status_code == 403
