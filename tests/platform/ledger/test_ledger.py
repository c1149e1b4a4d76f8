"""The ledger: what is shown of a request, and who may read what."""

from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import select

from loraplex.engine.request import Timings
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.settlement import SETTLED, Settlement
from loraplex.platform.metering.work import Request
from support.meters import metering
from support.services import OPERATOR, Api, bearer, sqlite_only

TIMINGS = Timings(0.25, 1.5, 0.125, 2.0, 1, 7)


async def write(
    own: Metering,
    tenant: UUID,
    answer_id: str,
    adapter: str | None = "fox",
    evicted_by: str | None = None,
) -> None:
    """One settled request."""
    asked = Request(tenant, "key1", answer_id, "completions", "tiny", Demand(30, 1, 9, 99))
    if adapter is not None:
        asked = asked._replace(
            adapter_id=uuid4(), adapter=adapter, version=3, version_id=uuid4(), digest="d" * 64
        )
    kept = await own.reserve(asked)
    await own.settle(
        Settlement(kept.id, SETTLED, "stop", 30, 16, 9, 4.0, 1.875, TIMINGS, evicted_by)
    )


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


async def test_a_row_says_what_a_request_took(api: Api) -> None:
    key = await api.tenant("acme")
    owner = await tenant_id(api, "acme")
    async with metering(api.database) as own:
        await write(own, owner, "cmpl-1")
        wanted = Request(owner, "key1", "chatcmpl-2", "chat", "tiny", Demand(5, 3, 9, 99))
        await own.reserve(wanted)
        newest, oldest = await requests(api, key)
    assert {name: oldest[name] for name in oldest if name not in ("id", "created_at")} == {
        "tenant": "acme",
        "key": "key1",
        "answer_id": "cmpl-1",
        "endpoint": "completions",
        "state": "settled",
        "choices": 1,
        "base": "tiny",
        "adapter": "fox",
        "version": 3,
        "digest": "d" * 64,
        "finish_reason": "stop",
        "prompt_tokens": 30,
        "cached_tokens": 16,
        "output_tokens": 9,
        "cost": 0.0,
        "total_ms": 4000.0,
        "first_token_ms": 1875.0,
        "queue_ms": 250.0,
        "load_ms": 1500.0,
        "prefill_ms": 125.0,
        "decode_ms": 2000.0,
        "preemptions": 1,
        "evicted_by": None,
        "batch": None,
    }
    # One that runs is there already.
    assert (newest["choices"], newest["adapter"], newest["finish_reason"]) == (3, None, "running")
    assert (newest["state"], newest["endpoint"]) == ("reserved", "chat")
    assert newest["queue_ms"] is newest["first_token_ms"] is None


async def test_pages_filters_and_owners(api: Api) -> None:
    keys = {name: await api.tenant(name) for name in ("acme", "globex")}
    async with metering(api.database) as own:
        for number in range(5):
            for name in keys:
                owner = await tenant_id(api, name)
                await write(own, owner, f"cmpl-{name}-{number}", "ab"[number % 2])
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
    async with metering(api.database) as own:
        for evictor in evictors:
            await write(own, owner, "cmpl-1", evicted_by=evictor)
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
