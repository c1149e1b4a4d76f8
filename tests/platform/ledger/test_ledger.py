"""The ledger: what is written, that nothing is lost in orderly operation, and who may read what."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from loraplex.engine.request import Timings
from loraplex.platform.catalog.resolve import ResolvedVersion
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.ledger import recorder as recorder_module
from loraplex.platform.ledger.recorder import Recorder
from support.services import OPERATOR, Api, bearer, sqlite_only

TIMINGS = Timings(0.25, 1.5, 0.125, 2.0, 1, 7)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "RETRY_SECONDS", 0.01)


def version(adapter: str = "fox", n: int = 3) -> ResolvedVersion:
    return ResolvedVersion(
        uuid4(), adapter, n, "t/d", "d" * 64, "s" * 64, 10, b"{}", None, max_running=None
    )


def outcome(reason: str = "stop", evicted_by: str | None = None) -> Outcome:
    return Outcome(reason, 30, 16, 9, 4.0, 1.875, TIMINGS, evicted_by)


class Seen:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []

    def __call__(self, base: str, outcome: Outcome) -> None:
        self.outcomes.append((base, outcome))


@asynccontextmanager
async def recording(database: Database, seen: Seen | None = None) -> AsyncIterator[Recorder]:
    """A recorder that has written everything when the block is left."""
    recorder = Recorder(database, seen or Seen())
    running = asyncio.create_task(recorder.run())
    yield recorder
    await recorder.close(running)


async def tenant_id(api: Api, name: str) -> UUID:
    async with api.database.main.reading(EVERY_TENANT) as session:
        found = await session.scalar(select(Tenant.id).where(Tenant.name == name))
    assert found is not None
    return found


async def requests(api: Api, key: str, query: str = "") -> list[dict[str, object]]:
    answer = await api.client.get(f"/api/v1/requests{query}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    data: list[dict[str, object]] = answer.json()["data"]
    return data


async def test_a_row_says_what_an_answer_took(api: Api) -> None:
    key = await api.tenant("acme")
    owner, seen = await tenant_id(api, "acme"), Seen()
    async with recording(api.database, seen) as recorder:
        settle = recorder.account(owner, "key1", "cmpl-1", "tiny", version())
        settle(0, outcome())
        base_only = recorder.account(owner, "key1", "cmpl-2", "tiny", None)
        base_only(1, Outcome("cancelled", 5, 0, 2, 0.5, None, None, None))
    newest, oldest = await requests(api, key)
    assert {name: oldest[name] for name in oldest if name not in ("id", "created_at")} == {
        "tenant": "acme",
        "key": "key1",
        "answer_id": "cmpl-1",
        "choice": 0,
        "base": "tiny",
        "adapter": "fox",
        "version": 3,
        "digest": "d" * 64,
        "finish_reason": "stop",
        "prompt_tokens": 30,
        "cached_tokens": 16,
        "output_tokens": 9,
        "total_ms": 4000.0,
        "first_token_ms": 1875.0,
        "queue_ms": 250.0,
        "load_ms": 1500.0,
        "prefill_ms": 125.0,
        "decode_ms": 2000.0,
        "preemptions": 1,
        "evicted_by": None,
    }
    assert (newest["choice"], newest["adapter"], newest["finish_reason"]) == (1, None, "cancelled")
    assert newest["queue_ms"] is newest["first_token_ms"] is None
    assert [base for base, _ in seen.outcomes] == ["tiny", "tiny"]


async def test_closing_writes_everything_in_order(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "BATCH", 7)
    monkeypatch.setattr(recorder_module, "FLUSH_SECONDS", 0.3)
    await api.tenant("acme")
    owner = await tenant_id(api, "acme")
    async with recording(api.database) as recorder:
        settle = recorder.account(owner, "key1", "cmpl-1", "tiny", None)
        for choice in range(20):
            settle(choice, outcome())
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(LedgerEntry.choice).order_by(LedgerEntry.id)
        assert list(await session.scalars(query)) == list(range(20))


async def test_a_database_that_is_away_for_a_while_costs_no_row(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.tenant("acme")
    owner = await tenant_id(api, "acme")
    attempts = 0
    write = Recorder._write

    async def failing(self: Recorder, rows: list[recorder_module.Row]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise ConnectionRefusedError
        await write(self, rows)

    monkeypatch.setattr(Recorder, "_write", failing)
    async with recording(api.database) as recorder:
        settle = recorder.account(owner, "key1", "cmpl-1", "tiny", None)
        settle(0, outcome())
        while attempts < 2:  # noqa: ASYNC110 - counting sets no event
            await asyncio.sleep(0.005)
        settle(1, outcome())
    async with api.database.main.reading(EVERY_TENANT) as session:
        assert sorted(await session.scalars(select(LedgerEntry.choice))) == [0, 1]


async def test_pages_filters_and_owners(api: Api) -> None:
    keys = {name: await api.tenant(name) for name in ("acme", "globex")}
    async with recording(api.database) as recorder:
        for number in range(5):
            for name in keys:
                settle = recorder.account(
                    await tenant_id(api, name),
                    "k",
                    f"cmpl-{name}-{number}",
                    "tiny",
                    version("ab"[number % 2]),
                )
                settle(0, outcome())
    acme = await requests(api, keys["acme"])
    assert [row["answer_id"] for row in acme] == [f"cmpl-acme-{n}" for n in (4, 3, 2, 1, 0)]
    assert {row["tenant"] for row in acme} == {"acme"}
    # Pages, newest first, without gaps.
    seen: list[object] = []
    before = ""
    while True:
        answer = await api.client.get(
            f"/api/v1/requests?limit=2{before}", headers=bearer(keys["acme"])
        )
        page = answer.json()
        seen += [row["answer_id"] for row in page["data"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == [row["answer_id"] for row in acme]
    assert len(await requests(api, keys["acme"], "?adapter=b")) == 2
    assert await requests(api, keys["acme"], "?adapter=c") == []
    # An answer of another tenant is not found, whoever asks by its id.
    assert len(await requests(api, keys["globex"], "?answer=cmpl-globex-1")) == 1
    assert await requests(api, keys["globex"], "?answer=cmpl-acme-1") == []
    # Operators see all, or one tenant's.
    assert len(await requests(api, OPERATOR)) == 10
    assert {r["tenant"] for r in await requests(api, OPERATOR, "?tenant=globex")} == {"globex"}
    for query, status in (("?tenant=nobody", 404), ("?limit=0", 400), ("?before=x", 400)):
        answer = await api.client.get(f"/api/v1/requests{query}", headers=bearer(OPERATOR))
        assert answer.status_code == status, query
    answer = await api.client.get("/api/v1/requests?tenant=globex", headers=bearer(keys["acme"]))
    assert answer.status_code == 404


async def test_an_evictor_is_named_to_those_who_may_know_it(api: Api, adapter_dir: Path) -> None:
    keys = {name: await api.tenant(name) for name in ("acme", "globex")}
    digests = {}
    for name, key in keys.items():
        pushed = await api.push(key, adapter_dir, f"of-{name}")
        digests[name] = f"{await tenant_id(api, name)}/{pushed.json()['digest']}"
    owner = await tenant_id(api, "acme")
    evictors = [digests["acme"], digests["globex"], "kv", f"{owner}/{'0' * 64}", None]
    async with recording(api.database) as recorder:
        settle = recorder.account(owner, "k", "cmpl-1", "tiny", version())
        for choice, evictor in enumerate(evictors):
            settle(choice, outcome(evicted_by=evictor))
    mine = [row["evicted_by"] for row in reversed(await requests(api, keys["acme"]))]
    assert mine == ["of-acme@1", "another tenant's adapter", "KV", "a deleted adapter", None]
    text = str(await requests(api, keys["acme"]))
    assert "globex" not in text
    assert str(await tenant_id(api, "globex")) not in text
    all_of_it = [row["evicted_by"] for row in reversed(await requests(api, OPERATOR))]
    assert all_of_it == [
        "acme/of-acme@1",
        "globex/of-globex@1",
        "KV",
        f"deleted adapter {owner}/{'0' * 64}",
        None,
    ]


@sqlite_only
async def test_the_ledger_needs_a_key_that_may_see_adapters(api: Api) -> None:
    key = await api.tenant("acme", "inference")
    answer = await api.client.get("/api/v1/requests", headers=bearer(key))
    assert answer.status_code == 403
