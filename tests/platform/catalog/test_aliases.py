"""Moving aliases: promotion and rollback of versions and splits, what a caller believes, what may be deleted."""

import asyncio
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.db.models import AdapterVersion, AuditEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings
from support.services import Api, bearer, sqlite_only


@pytest.fixture
async def key(api: Api, adapter_dir: Path) -> str:
    """Tenant acme with four versions of adapter `a`."""
    key = await api.tenant("acme")
    for _ in range(4):
        assert (await api.push(key, adapter_dir)).status_code == 201
    return key


async def put(api: Api, key: str, alias: str = "prod", **body: object) -> httpx.Response:
    path = f"/api/v1/adapters/a/aliases/{alias}"
    return await api.client.put(path, json=body, headers=bearer(key))


async def rollback(api: Api, key: str, **body: object) -> httpx.Response:
    path = "/api/v1/adapters/a/aliases/prod/rollback"
    return await api.client.post(path, json=body or None, headers=bearer(key))


def named(answer: httpx.Response) -> object:
    """The version or split an alias names, as the API shows it."""
    assert answer.status_code == 200, answer.text
    return answer.json()["split"] or answer.json()["version"]


async def conflict(answer: httpx.Response) -> str:
    assert answer.status_code == 409, answer.text
    assert answer.headers["x-should-retry"] == "false"
    return str(answer.json()["code"])


async def resolver(api: Api, settings: Settings) -> tuple[Resolver, Principal]:
    """Another worker's way to look up names, and a key of acme."""
    async with api.database.main.reading(EVERY_TENANT) as session:
        tenant = await session.scalar(select(Tenant.id).where(Tenant.name == "acme"))
    other = Resolver(api.database, BaseModels(settings.models), Epochs(settings.data_dir))
    return other, Principal(actor_id="k", tenant_id=tenant)


async def test_a_split_serves_each_user_one_of_its_versions(
    api: Api, settings: Settings, key: str
) -> None:
    split = await put(api, key, split={"2": 3, "3": 1})
    assert (split.json()["split"], split.json()["version"]) == ({"2": 0.75, "3": 0.25}, 2)
    worker, viewer = await resolver(api, settings)

    async def version(user: str | None) -> int:
        resolved = await worker.resolve(viewer, "a", user)
        assert resolved.version is not None
        return resolved.version.n

    met = [await version(f"user-{i}") for i in range(60)]
    assert set(met) == {2, 3}
    assert met == [await version(f"user-{i}") for i in range(60)]
    assert {await version(None) for _ in range(80)} == {2, 3}
    shown = (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).json()
    assert [v["aliases"] for v in shown["versions"]] == [[], ["prod"], ["prod"], []]


async def test_rolling_back_swaps_versions_and_splits(api: Api, key: str) -> None:
    split = {"3": 0.9, "4": 0.1}
    assert await conflict(await rollback_of_nothing(api, key)) == "nothing_before"
    assert named(await put(api, key, split=split)) == split
    assert named(await rollback(api, key)) == 1
    assert named(await rollback(api, key)) == split
    assert named(await put(api, key, version=2)) == 2
    shown = (await rollback(api, key)).json()
    assert (shown["split"], shown["previous"], shown["previous_split"]) == (split, 2, None)
    assert named(await put(api, key, split={"4": 5})) == 4, "a split of one is that version"


async def rollback_of_nothing(api: Api, key: str) -> httpx.Response:
    missing = await rollback(api, key)
    assert missing.status_code == 404
    await put(api, key, version=1)
    return await rollback(api, key)


async def test_what_was_named_before_may_be_deleted_and_is_missed(api: Api, key: str) -> None:
    await put(api, key, split={"1": 9, "2": 1})
    headers = bearer(key)
    for n in (1, 2):
        held = await api.client.delete(f"/api/v1/adapters/a/versions/{n}", headers=headers)
        assert held.status_code == 409
    await put(api, key, version=3)
    assert (await api.client.delete("/api/v1/adapters/a/versions/2", headers=headers)).is_success
    assert await conflict(await rollback(api, key)) == "previous_is_gone"
    assert named(await put(api, key, version=4)) == 4
    assert (await api.client.delete("/api/v1/adapters/a/versions/3", headers=headers)).is_success
    assert await conflict(await rollback(api, key)) == "nothing_before"


async def test_a_change_may_depend_on_what_is_there(api: Api, key: str) -> None:
    assert await conflict(await put(api, key, version=1, expected=1)) == "alias_changed"
    assert named(await put(api, key, version=1, expected=None)) == 1
    assert await conflict(await put(api, key, version=2, expected=None)) == "alias_changed"
    assert await conflict(await put(api, key, version=2, expected=3)) == "alias_changed"
    assert named(await put(api, key, split={"1": 2, "2": 1}, expected=1)) == {
        "1": pytest.approx(2 / 3),
        "2": pytest.approx(1 / 3),
    }
    shown = (await put(api, key, split={"1": 4, "2": 2})).json()["split"]
    assert await conflict(await put(api, key, version=4, expected=1)) == "alias_changed"
    assert (
        await conflict(await rollback(api, key, expected={"1": 0.5, "2": 0.5})) == "alias_changed"
    )
    assert named(await rollback(api, key, expected=shown)) == 1


async def test_of_two_promotions_at_once_one_wins(api: Api, key: str) -> None:
    await put(api, key, version=1)
    answers = await asyncio.gather(*(put(api, key, version=n, expected=1) for n in (2, 3, 4)))
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {await conflict(a) for a in answers if a is not won[0]} == {"alias_changed"}
    shown = (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).json()
    now = shown["aliases"][0]
    assert (now["version"], now["previous"]) == (won[0].json()["version"], 1)


@sqlite_only
async def test_aliases_that_are_refused(api: Api, key: str) -> None:
    assert (await put(api, key, split={"1": 1, "9": 1})).status_code == 404
    bodies: tuple[dict[str, object], ...] = (
        {},
        {"version": 1, "split": {"2": 1}},
        {"split": {}},
        {"split": {"1": -1}},
        {"split": {"1": "1"}},
        {"split": {"a": 1}},
        {"version": 1, "expected": {}},
        {"version": 1, "weights": {}},
    )
    for body in bodies:
        path = "/api/v1/adapters/a/aliases/prod"
        refused = await api.client.put(path, json=body, headers=bearer(key))
        assert refused.status_code == 400, body
    async with api.database.main.writing(EVERY_TENANT) as session:
        row = await session.scalar(select(AdapterVersion).where(AdapterVersion.n == 2))
        assert row is not None
        row.base_model = "another"
    mixed = await put(api, key, split={"1": 1, "2": 1})
    assert (mixed.status_code, mixed.json()["param"]) == (400, "split")


async def test_changes_are_audited_with_what_was_there(api: Api, key: str) -> None:
    await put(api, key, version=1)
    await put(api, key, split={"1": 1, "2": 3})
    await rollback(api, key)
    await api.client.delete("/api/v1/adapters/a/aliases/prod", headers=bearer(key))
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action.startswith("alias."))
        entries = (await session.scalars(query.order_by(AuditEntry.id))).all()
    one, split = {"version": 1}, {"split": {"1": 0.25, "2": 0.75}}
    assert [(e.action, e.before, e.after) for e in entries] == [
        ("alias.set", None, one),
        ("alias.set", one, split),
        ("alias.rollback", split, one),
        ("alias.delete", one, None),
    ]


async def test_every_worker_sees_a_change_at_once(
    api: Api, settings: Settings, key: str, adapter_dir: Path
) -> None:
    worker, viewer = await resolver(api, settings)

    async def version(model: str = "a") -> int:
        resolved = await worker.resolve(viewer, model)
        assert resolved.version is not None
        return resolved.version.n

    assert await version() == 4
    await api.push(key, adapter_dir)
    assert await version() == 5
    for n in (2, 1):
        await put(api, key, version=n)
        assert await version() == n
    await rollback(api, key)
    assert await version() == 2
    await api.client.patch("/api/v1/adapters/a", json={"max_running": 3}, headers=bearer(key))
    resolved = await worker.resolve(viewer, "a@2")
    assert resolved.version is not None
    assert resolved.version.max_running == 3
    await api.client.delete("/api/v1/adapters/a/aliases/prod", headers=bearer(key))
    assert await version() == 5


async def test_other_machines_see_a_change_within_a_second(
    api: Api, settings: Settings, key: str, tmp_path: Path
) -> None:
    _, viewer = await resolver(api, settings)
    now = 100.0
    elsewhere = Resolver(
        api.database, BaseModels(settings.models), Epochs(tmp_path / "elsewhere"), lambda: now
    )

    async def version() -> int:
        resolved = await elsewhere.resolve(viewer, "a")
        assert resolved.version is not None
        return resolved.version.n

    assert await version() == 4
    await put(api, key, version=1)
    assert await version() == 4, "remembered"
    now += 1.0
    assert await version() == 1
