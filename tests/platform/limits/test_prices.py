"""Prices of base models and of adapters: operators set them, everybody sees what concerns them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select

from loraplex.platform.db.models import AuditEntry, Price
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import ServedModel, Settings
from support.apps import client_of, running_app
from support.services import OPERATOR, Api, FakeEngines, bearer, sqlite_only

OPS = bearer(OPERATOR)
PRICES = "/api/v1/prices"
FREE = {"adapter": None, "input": 0.0, "cached_input": 0.0, "output": 0.0, "is_set": False}


async def audited(api: Api) -> Sequence[AuditEntry]:
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action.like("price.%")).order_by(AuditEntry.id)
        return (await session.scalars(query)).all()


async def test_the_price_of_a_base_model(api: Api) -> None:
    tenant = bearer(await api.tenant("acme"))
    free = {"base": "tiny", **FREE}
    assert (await api.client.get(PRICES, headers=tenant)).json() == {"data": [free]}
    assert (await api.client.get(f"{PRICES}/tiny", headers=tenant)).json() == free
    answer = await api.client.put(
        f"{PRICES}/tiny", json={"input": "0.25", "output": 1.5}, headers=OPS
    )
    price = {
        "base": "tiny",
        "adapter": None,
        "input": 0.25,
        "cached_input": 0.25,
        "output": 1.5,
        "is_set": True,
    }
    assert (answer.status_code, answer.json()) == (200, price)
    assert (await api.client.get(PRICES, headers=tenant)).json() == {"data": [price]}
    async with api.database.main.reading(EVERY_TENANT) as session:
        row = (await session.scalars(select(Price))).one()
    assert (row.input_nanos, row.cached_nanos, row.output_nanos) == (250, 250, 1500)
    body = {"input": 0.001, "cached_input": 0, "output": "2"}
    answer = await api.client.put(f"{PRICES}/tiny", json=body, headers=OPS)
    assert answer.json() == {**price, "input": 0.001, "cached_input": 0.0, "output": 2.0}
    for _ in range(2):
        assert (await api.client.delete(f"{PRICES}/tiny", headers=OPS)).status_code == 204
    assert (await api.client.get(f"{PRICES}/tiny", headers=tenant)).json() == free
    first, second, third = await audited(api)
    assert (first.action, first.target, first.before) == ("price.set", "tiny", None)
    assert first.after == second.before == {"input": 0.25, "cached_input": 0.25, "output": 1.5}
    assert (third.action, third.before, third.after) == ("price.clear", second.after, None)


@sqlite_only
async def test_who_may_not_and_what_may_not(api: Api) -> None:
    tenant = bearer(await api.tenant("acme", "admin", "adapters", "usage"))
    good = {"input": 1, "output": 1}
    for path in (f"{PRICES}/tiny", "/api/v1/adapters/a/price"):
        assert (await api.client.put(path, json=good, headers=tenant)).status_code == 403
        assert (await api.client.delete(path, headers=tenant)).status_code == 403
    for body, param in (
        ({"input": 1}, "output"),
        ({"input": 1, "output": -1}, "output"),
        ({"input": "0.0001", "output": 1}, "input"),
        ({"input": 1, "output": 1, "cached_input": "NaN"}, "cached_input"),
        ({"input": 1, "output": 1, "cached": 1}, "cached"),
        ({"input": True, "output": 1}, "input"),
    ):
        answer = await api.client.put(f"{PRICES}/tiny", json=body, headers=OPS)
        assert (answer.status_code, answer.json()["param"]) == (400, param), body
    for method in ("GET", "PUT", "DELETE"):
        answer = await api.client.request(method, f"{PRICES}/huge", json=good, headers=OPS)
        assert answer.status_code == 404, method
    assert (await api.client.get(PRICES)).status_code == 401


@sqlite_only
async def test_ids_of_base_models_with_slashes_and_colons(settings: Settings) -> None:
    models = (ServedModel(settings.models[0].path, "meta/Tiny-1B:fp8"),)
    changed = replace(settings, models=models)
    async with running_app(changed, FakeEngines(models)) as app, client_of(app) as client:
        for path in (f"{PRICES}/meta/Tiny-1B:fp8", f"{PRICES}/meta%2FTiny-1B%3Afp8"):
            answer = await client.put(path, json={"input": 1, "output": 1}, headers=OPS)
            assert (answer.status_code, answer.json()["base"]) == (200, "meta/Tiny-1B:fp8")
            assert (await client.get(path, headers=OPS)).json() == answer.json()
            assert (await client.delete(path, headers=OPS)).status_code == 204


async def test_the_price_of_an_adapter(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    other = bearer(await api.tenant("globex"))
    tenant = bearer(key)
    await api.push(key, adapter_dir, "a")
    path = "/api/v1/adapters/a/price"
    free = {"base": "tiny", **FREE, "adapter": "a"}
    assert (await api.client.get(path, headers=tenant)).json() == free
    await api.client.put(f"{PRICES}/tiny", json={"input": 1, "output": 2}, headers=OPS)
    base = {**free, "input": 1.0, "cached_input": 1.0, "output": 2.0}
    assert (await api.client.get(path, headers=tenant)).json() == base
    own = f"{path}?tenant=acme"
    answer = await api.client.put(own, json={"input": 3, "output": 4}, headers=OPS)
    special = {**base, "input": 3.0, "cached_input": 3.0, "output": 4.0, "is_set": True}
    assert (answer.status_code, answer.json()) == (200, special)
    assert (await api.client.get(path, headers=tenant)).json() == special
    for headers, name in ((other, "a"), (tenant, "b"), (OPS, "a?tenant=globex")):
        url = f"/api/v1/adapters/{name.replace('?', '/price?')}"
        url = url if "?" in url else f"{url}/price"
        assert (await api.client.get(url, headers=headers)).status_code == 404
    wrong = await api.client.get(f"{path}?base=huge", headers=tenant)
    assert (wrong.status_code, wrong.json()["param"]) == (400, "base")
    assert (await api.client.delete(own, headers=OPS)).status_code == 204
    assert (await api.client.get(path, headers=tenant)).json() == base
    changes = await audited(api)
    assert [(e.action, e.target) for e in changes] == [
        ("price.set", "tiny"),
        ("price.set", "a"),
        ("price.clear", "a"),
    ]
    assert changes[1].detail == {"base": "tiny"}
    assert changes[1].tenant_id is not None
    # With the adapter its price goes.
    await api.client.put(own, json={"input": 3, "output": 4}, headers=OPS)
    await api.client.delete("/api/v1/adapters/a", headers=tenant)
    async with api.database.main.reading(EVERY_TENANT) as session:
        assert await session.scalar(select(func.count()).select_from(Price)) == 1


@sqlite_only
async def test_a_confined_key_sees_no_price_of_others(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir, "a")
    made = await api.client.post("/api/v1/tenants/acme/keys", json={"adapters": ["b"]}, headers=OPS)
    confined = bearer(made.json()["key"])
    hidden = await api.client.get("/api/v1/adapters/a/price", headers=confined)
    absent = await api.client.get("/api/v1/adapters/z/price", headers=confined)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("'a'", "'z'") == absent.text


async def test_of_many_who_set_one_price_each_follows_another(api: Api, adapter_dir: Path) -> None:
    await api.push(await api.tenant("acme"), adapter_dir, "a")
    for path, target in ((f"{PRICES}/tiny", "tiny"), ("/api/v1/adapters/a/price?tenant=acme", "a")):
        answers = await asyncio.gather(
            *(
                api.client.put(path, json={"input": n, "output": 1}, headers=OPS)
                for n in range(1, 7)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * 6
        changes = [entry for entry in await audited(api) if entry.target == target]
        # Each names the one before it: only the last is nobody's `before`.
        assert len({str(entry.before) for entry in changes}) == 6
        last = [e.after for e in changes if e.after not in [other.before for other in changes]]
        shown = (await api.client.get(path, headers=OPS)).json()
        assert [(after or {})["input"] for after in last] == [shown["input"]]
