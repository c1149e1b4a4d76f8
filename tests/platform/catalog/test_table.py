"""The list of adapters: filters, pages, and what is told beside the names; of one's own tenant alone."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from loraplex.platform.db.base import utc_now
from loraplex.platform.engines.messages import AdapterState, Description, Tier
from support.services import Api, bearer
from support.table_rows import add_adapters, add_rollups
from support.usage import fill, tenant_id

NAMES = ("a-1", "a.2", "Ab_3", "b", "c")


@pytest.fixture
async def acme(api: Api) -> tuple[str, UUID]:
    """A key of a tenant with `NAMES`, and its id; another tenant has adapters of the same names."""
    for name in ("other", "acme"):
        key = await api.tenant(name)
        tenant = await tenant_id(api.database, name)
        await add_adapters(api.database, tenant, NAMES, alias="prod" if name == "acme" else "old")
    return key, tenant


async def listed(api: Api, key: str, **query: str | int | Sequence[str]) -> list[dict[str, object]]:
    answer = await api.client.get("/api/v1/adapters", params=query, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    data: list[dict[str, object]] = answer.json()["data"]
    return data


async def names(api: Api, key: str, **query: str | int) -> list[object]:
    """Through all pages, each name once."""
    found: list[object] = []
    after: str | None = ""
    while after is not None:
        answer = await api.client.get(
            "/api/v1/adapters", params={**query, "after": after}, headers=bearer(key)
        )
        found += [row["name"] for row in answer.json()["data"]]
        after = answer.json()["next"]
    assert len(set(map(str, found))) == len(found)
    return found


def hold(api: Api, tenant: UUID, places: dict[str, Tier]) -> None:
    """Make the engine say where adapters are."""
    states = [AdapterState(f"{tenant}/{name:0>64}", tier) for name, tier in places.items()]
    api.engines.described = {"tiny": Description(0, [*api_states(api), *states])}


def api_states(api: Api) -> list[AdapterState]:
    return [each for known in api.engines.described.values() for each in known.adapters]


async def test_filters_and_pages(api: Api, acme: tuple[str, UUID]) -> None:
    key, tenant = acme
    everything = await names(api, key)
    assert sorted(map(str, everything)) == sorted(NAMES)
    assert await names(api, key, limit=2) == everything
    assert await names(api, key, limit=1, search="A") == [
        n for n in everything if "a" in str(n).lower()
    ]
    assert await names(api, key, search="_") == ["Ab_3"]
    assert await names(api, key, base="BASE-B") == ["b"]
    assert await names(api, key, base="base-", limit=2) == everything
    assert await names(api, key, base="%") == []
    assert await names(api, key, alias="Pro", limit=2) == everything
    assert await names(api, key, alias="old") == []
    hold(api, tenant, {"a-1": Tier.DEVICE, "c": Tier.DEVICE, "b": Tier.DISK})
    assert set(await names(api, key, tier="device", limit=1)) == {"a-1", "c"}
    assert await names(api, key, tier="device", search="c") == ["c"]
    assert await names(api, key, tier="disk") == ["b"]
    assert await names(api, key, tier="host") == []
    assert set(await names(api, key, tier="database", limit=1)) == {"a.2", "Ab_3"}
    refused = await api.client.get("/api/v1/adapters?tier=cloud", headers=bearer(key))
    assert refused.status_code == 400


async def test_newest_version_and_residency(
    api: Api, adapter_dir: Path, other_adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    for folder in (adapter_dir, other_adapter_dir):
        assert (await api.push(key, folder, name="poems")).status_code == 201
    tenant = await tenant_id(api.database, "acme")
    versions = (await api.client.get("/api/v1/adapters/poems/versions", headers=bearer(key))).json()
    newest, oldest = versions["data"]
    hold(api, tenant, {newest["digest"]: Tier.HOST, oldest["digest"]: Tier.DEVICE})
    [row] = await listed(api, key, include=["newest", "residency"])
    assert row["newest"] == {
        "version": 2, "base": "tiny", "rank": 4, "size": newest["size"],
        "created_at": newest["created_at"],
    }  # fmt: skip
    assert row["residency"] == "device"
    assert "traffic" not in row
    [plain] = await listed(api, key)
    assert not {"newest", "residency", "traffic"} & plain.keys()


async def test_traffic_by_the_hour(api: Api, acme: tuple[str, UUID]) -> None:
    key, tenant = acme
    other = await tenant_id(api.database, "other")
    hour = utc_now().replace(minute=0, second=0, microsecond=0)
    hours = {0: 5, 23: 2, 24: 100, -1: 100}
    await add_rollups(
        api.database, tenant, ["b"], {hour - timedelta(hours=h): n for h, n in hours.items()}
    )
    await add_rollups(api.database, other, ["b"], {hour: 1000})
    rows = {str(row["name"]): row["traffic"] for row in await listed(api, key, include=["traffic"])}
    assert rows["b"] == {"hourly": [2, *[0] * 22, 5], "last_used_at": None}
    assert rows["c"] == {"hourly": [0] * 24, "last_used_at": None}


async def test_when_an_adapter_was_last_used(api: Api) -> None:
    key = await api.tenant("acme")
    await api.tenant("other")
    tenant, other = [await tenant_id(api.database, name) for name in ("acme", "other")]
    await add_adapters(api.database, tenant, ["fox", "hen"])
    began = utc_now() - timedelta(days=3)
    await fill(api.database, tenant, began, 5, timedelta(seconds=60))
    await fill(api.database, other, began + timedelta(days=1), 3, timedelta(seconds=60))
    fox, hen = await listed(api, key, include=["traffic"])
    assert isinstance(fox["traffic"], dict)
    assert isinstance(hen["traffic"], dict)
    ledger = await api.client.get("/api/v1/requests?adapter=fox", headers=bearer(key))
    assert fox["traffic"]["last_used_at"] == ledger.json()["data"][0]["created_at"]
    assert hen["traffic"]["last_used_at"] is None


async def test_nothing_of_another_tenant(api: Api, acme: tuple[str, UUID]) -> None:
    key, _ = acme
    other = await tenant_id(api.database, "other")
    hold(api, other, dict.fromkeys(NAMES, Tier.DEVICE))
    rows = await listed(api, key, include=["newest", "residency", "traffic"])
    assert [row["residency"] for row in rows] == ["database"] * len(NAMES)
    assert await names(api, key, tier="device") == []
    aliases = [alias["alias"] for row in rows for alias in row["aliases"]]  # type: ignore[attr-defined]
    assert aliases == ["prod"] * len(NAMES)


async def test_traffic_needs_the_scope_usage(api: Api, acme: tuple[str, UUID]) -> None:
    reader = await api.tenant("acme", "adapters:read")
    rows = await listed(api, reader, include=["newest", "residency"])
    assert len(rows) == len(NAMES)
    refused = await api.client.get(
        "/api/v1/adapters", params={"include": "traffic"}, headers=bearer(reader)
    )
    assert refused.status_code == 403
    assert "'usage'" in refused.text
