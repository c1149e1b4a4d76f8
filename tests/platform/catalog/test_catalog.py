"""Looking at adapters, moving aliases, deleting, and what a `model` text means meanwhile."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.db.models import AuditEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ModelNotFoundError, NotFoundError
from loraplex.platform.settings import ServedModel, Settings
from support.services import OPERATOR, Api, bearer


async def alias(api: Api, key: str, version: int, name: str = "prod") -> int:
    answer = await api.client.put(
        f"/api/v1/adapters/a/aliases/{name}", json={"version": version}, headers=bearer(key)
    )
    return answer.status_code


async def named(api: Api, settings: Settings, model: str, tenant: str = "acme") -> int | None:
    """The version number `model` resolves to."""
    async with api.database.main.reading(EVERY_TENANT) as session:
        tenant_id = await session.scalar(select(Tenant.id).where(Tenant.name == tenant))
    assert tenant_id is not None
    resolver = Resolver(api.database, BaseModels(settings.models), Epochs(settings.data_dir))
    viewer = Principal(actor_id="k", tenant_id=tenant_id)
    resolved = await resolver.resolve(viewer, model)
    return None if resolved.version is None else resolved.version.n


@pytest.fixture
async def key(api: Api, adapter_dir: Path, other_adapter_dir: Path) -> str:
    """Tenant acme with adapter `a`, whose versions 1 and 3 have equal files."""
    key = await api.tenant("acme")
    for folder in (adapter_dir, other_adapter_dir, adapter_dir):
        assert (await api.push(key, folder)).status_code == 201
    return key


async def test_what_a_model_text_means(api: Api, settings: Settings, key: str) -> None:
    assert await named(api, settings, "tiny") is None
    assert await named(api, settings, "a") == 3
    assert await named(api, settings, "a@2") == 2
    assert await alias(api, key, 1) == 200
    assert await alias(api, key, 2, "canary") == 200
    assert await named(api, settings, "a") == 1
    assert await named(api, settings, "a@prod") == 1
    assert await named(api, settings, "a@canary") == 2
    assert await named(api, settings, "a@3") == 3


NOTHING = [
    "",
    "b",
    "A",
    "a@",
    "a@4",
    "a@0",
    "a@01",
    "a@-1",
    "a@none",
    "a@1@2",
    "a@99999999999999999999",
    "tiny@1",
    "../a",
    "a/1",
    "x" * 10_000,
    "a\x00",
    "%",
    "a'--",
]


async def test_what_names_nothing(api: Api, settings: Settings, key: str) -> None:
    for model in NOTHING:
        with pytest.raises(ModelNotFoundError):
            await named(api, settings, model)


async def test_a_version_whose_base_is_not_served_says_so(
    api: Api, settings: Settings, key: str, base_dir: Path
) -> None:
    elsewhere = Settings(data_dir=settings.data_dir, models=(ServedModel(base_dir, "renamed"),))
    with pytest.raises(NotFoundError, match="'tiny', which is not served"):
        await named(api, elsewhere, "a")


async def test_another_tenants_adapter_looks_absent_everywhere(api: Api, key: str) -> None:
    other = bearer(await api.tenant("globex"))
    await alias(api, key, 1)
    for path in ("", "/versions", "/versions/1"):
        foreign = await api.client.get(f"/api/v1/adapters/a{path}", headers=other)
        absent = await api.client.get(f"/api/v1/adapters/z{path}", headers=other)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text == absent.text.replace("'z'", "'a'")
    for path in ("", "/versions/1", "/aliases/prod"):
        assert (
            await api.client.delete(f"/api/v1/adapters/a{path}", headers=other)
        ).status_code == 404
    for model in ("a", "a@1", "a@prod"):
        foreign = await api.client.get(f"/v1/models/{model}", headers=other)
        absent = await api.client.get(f"/v1/models/{model.replace('a', 'z', 1)}", headers=other)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.json()["error"]["code"] == "model_not_found"
        assert foreign.text.replace(f"'{model}'", "M") == absent.text.replace(
            f"'{model.replace('a', 'z', 1)}'", "M"
        )
    assert (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).status_code == 200
    listed = (await api.client.get("/v1/models", headers=other)).json()
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    asked = await api.client.get("/api/v1/adapters?tenant=acme", headers=other)
    assert asked.status_code == 404


async def test_models_lists_bases_adapters_and_aliases(api: Api, key: str) -> None:
    await alias(api, key, 1)
    listed = (await api.client.get("/v1/models", headers=bearer(key))).json()
    assert [model["id"] for model in listed["data"]] == ["tiny", "a", "a@prod"]
    assert [model["owned_by"] for model in listed["data"]] == ["loraplex", "acme", "acme"]


async def test_looking_at_adapters(api: Api, key: str) -> None:
    await alias(api, key, 2)
    await alias(api, key, 3)
    shown = (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).json()
    assert [v["version"] for v in shown["versions"]] == [3, 2, 1]
    assert [v["aliases"] for v in shown["versions"]] == [["prod"], [], []]
    assert [v["rank"] for v in shown["versions"]] == [8, 4, 8]
    found = {k: shown["aliases"][0][k] for k in ("alias", "version", "previous")}
    assert found == {"alias": "prod", "version": 3, "previous": 2}
    version = (await api.client.get("/api/v1/adapters/a/versions/2", headers=bearer(key))).json()
    assert version["report"]["verdict"] == "accepted"
    listed = (await api.client.get("/api/v1/adapters?limit=1", headers=bearer(key))).json()
    assert ([a["name"] for a in listed["data"]], listed["next"]) == (["a"], "a")


async def test_setting_an_alias_again_keeps_its_past(api: Api, key: str) -> None:
    for version in (1, 2, 2):
        assert await alias(api, key, version) == 200
    shown = (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).json()
    assert (shown["aliases"][0]["version"], shown["aliases"][0]["previous"]) == (2, 1)


async def test_aliases_that_cannot_be(api: Api, key: str) -> None:
    assert await alias(api, key, 9) == 404
    assert await alias(api, key, 0) == 400
    for name in ("12", "a@b"):
        assert await alias(api, key, 1, name) == 400


async def test_simultaneous_alias_changes_are_ordered(api: Api, key: str) -> None:
    await alias(api, key, 1)
    statuses = await asyncio.gather(*(alias(api, key, 1 + n % 3) for n in range(12)))
    assert set(statuses) == {200}
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action == "alias.set").order_by(AuditEntry.id)
        last = (await session.scalars(query)).all()[-1]
    shown = (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).json()
    now = shown["aliases"][0]
    assert last.after == {"version": now["version"]}
    assert now["previous"] not in (None, now["version"])


async def test_deleting_a_version_purges_it_everywhere(api: Api, key: str) -> None:
    deleted = await api.client.delete("/api/v1/adapters/a/versions/2", headers=bearer(key))
    assert deleted.status_code == 204
    assert len(set(api.engines.purged)) == 1
    base, identity = api.engines.purged[0]
    assert base == "tiny"
    assert UUID(identity.split("/")[0])
    assert (await api.stored())[0] == 1
    assert (await api.client.get("/v1/models/a@2", headers=bearer(key))).status_code == 404


async def test_the_proof_of_a_deletion_stays_with_its_audit_entry(api: Api, key: str) -> None:
    async def details() -> list[dict[str, object]]:
        async with api.database.main.reading(EVERY_TENANT) as session:
            query = select(AuditEntry).where(AuditEntry.action.endswith(".delete"))
            entries = await session.scalars(query.order_by(AuditEntry.id))
            return [entry.detail for entry in entries]

    headers = bearer(key)
    await api.client.delete("/api/v1/adapters/a/versions/2", headers=headers)
    (proven,) = await details()
    assert proven["engines"] == {
        "tiny": {
            "device_pages_zeroed": 2,  # 1 each: before and after the bytes in the database went
            "kv_blocks_dropped": 4,
            "host_entries_removed": 6,
            "disk_files_removed": 8,
            "requests_ended": 10,
        }
    }
    assert len(str(proven["digest"])) == 64
    # Its contents are those of version 1.
    await api.client.delete("/api/v1/adapters/a/versions/3", headers=headers)
    assert "same contents" in str((await details())[1]["engines"])
    api.engines.is_ready = False
    await api.client.delete("/api/v1/adapters/a", headers=headers)
    assert "no engine answered" in str((await details())[2]["engines"])


async def test_equal_files_stay_until_the_last_version_goes(api: Api, key: str) -> None:
    await api.client.delete("/api/v1/adapters/a/versions/1", headers=bearer(key))
    assert api.engines.purged == []
    assert (await api.stored())[0] == 2
    await api.client.delete("/api/v1/adapters/a/versions/3", headers=bearer(key))
    assert len(set(api.engines.purged)) == 1
    assert (await api.stored())[0] == 1


async def test_a_version_number_is_never_given_again(api: Api, key: str, adapter_dir: Path) -> None:
    await api.client.delete("/api/v1/adapters/a/versions/3", headers=bearer(key))
    assert (await api.push(key, adapter_dir)).json()["version"] == 4


async def test_a_named_version_is_not_deleted(api: Api, key: str) -> None:
    await alias(api, key, 2)
    answer = await api.client.delete("/api/v1/adapters/a/versions/2", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    gone = await api.client.delete("/api/v1/adapters/a/aliases/prod", headers=bearer(key))
    assert gone.status_code == 204
    answer = await api.client.delete("/api/v1/adapters/a/versions/2", headers=bearer(key))
    assert answer.status_code == 204


async def test_deleting_an_adapter_leaves_nothing(api: Api, key: str) -> None:
    await alias(api, key, 1)
    answer = await api.client.delete("/api/v1/adapters/a", headers=bearer(key))
    assert answer.status_code == 204
    assert len(set(api.engines.purged)) == 2
    assert await api.stored() == (0, 0, 0)
    assert (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).status_code == 404


async def test_deleting_leaves_other_adapters_and_tenants_alone(
    api: Api, key: str, adapter_dir: Path
) -> None:
    await api.push(key, adapter_dir, "b")
    other = await api.tenant("globex")
    await api.push(other, adapter_dir)
    await api.client.delete("/api/v1/adapters/a", headers=bearer(key))
    # `b` has the same files as two of the versions that went.
    assert len(set(api.engines.purged)) == 1
    assert (await api.stored())[0] == 2
    assert (await api.client.get("/v1/models/b", headers=bearer(key))).status_code == 200
    assert (await api.client.get("/v1/models/a", headers=bearer(other))).status_code == 200


async def test_pushing_while_deleting_never_leaves_a_version_without_weights(
    api: Api, key: str, adapter_dir: Path
) -> None:
    for n in (2, 3):
        await api.client.delete(f"/api/v1/adapters/a/versions/{n}", headers=bearer(key))

    async def push(name: str) -> int:
        return (await api.push(key, adapter_dir, name)).status_code

    async def remove() -> int:
        path = "/api/v1/adapters/a/versions/1"
        return (await api.client.delete(path, headers=bearer(key))).status_code

    statuses = await asyncio.gather(push("b"), remove(), push("c"))
    assert statuses[1] == 204
    assert set(statuses) <= {201, 204, 409}
    blobs, chunks, _ = await api.stored()
    assert blobs == (1 if 201 in statuses else 0)
    assert (chunks > 0) == (blobs > 0)


async def test_an_operator_must_name_a_tenant(api: Api, key: str) -> None:
    missing = await api.client.get("/api/v1/adapters/a", headers=bearer(OPERATOR))
    assert (missing.status_code, missing.json()["param"]) == (400, "tenant")
    found = await api.client.get("/api/v1/adapters/a?tenant=acme", headers=bearer(OPERATOR))
    assert found.status_code == 200
