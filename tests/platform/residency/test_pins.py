"""What is pinned reaches the engines: everything the names of a pinned adapter mean, and nothing else."""

from pathlib import Path

import httpx

from support.services import OPERATOR, Api, bearer, sqlite_only


async def change(api: Api, key: str, query: str = "", **body: object) -> httpx.Response:
    return await api.client.patch(f"/api/v1/adapters/a{query}", json=body, headers=bearer(key))


def pinned(api: Api) -> set[str]:
    """Digests of what the engine was told last."""
    return {adapter.identity.partition("/")[2] for adapter in api.engines.pinned["tiny"]}


async def test_what_the_names_mean_is_pinned(
    api: Api, adapter_dir: Path, other_adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    first = (await api.push(key, adapter_dir)).json()["digest"]
    second = (await api.push(key, other_adapter_dir)).json()["digest"]
    await api.push(key, adapter_dir, "b")
    answer = await change(api, OPERATOR, "?tenant=acme", pinned=True)
    assert (answer.status_code, answer.json()["pinned"]) == (200, True)
    assert pinned(api) == {second}, "without an alias the newest"
    headers = bearer(key)
    for alias, version, meant in (
        ("canary", 1, {first, second}),
        ("prod", 1, {first}),
        ("canary", 2, {first, second}),
    ):
        path = f"/api/v1/adapters/a/aliases/{alias}"
        put = await api.client.put(path, json={"version": version}, headers=headers)
        assert put.status_code == 200
        # Engines are told every few seconds; at once when pins change.
        await change(api, OPERATOR, "?tenant=acme", pinned=True)
        assert pinned(api) == meant, alias
    file = api.engines.pinned["tiny"][0]
    assert file.size == (adapter_dir / "adapter_model.safetensors").stat().st_size
    await change(api, OPERATOR, "?tenant=acme", pinned=False)
    assert api.engines.pinned["tiny"] == []


async def test_only_operators_pin_and_tenants_limit(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir)
    refused = await change(api, key, pinned=True)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert (await change(api, key, pinned=False)).status_code == 403
    limited = await change(api, key, max_running=2)
    assert (limited.json()["max_running"], limited.json()["pinned"]) == (2, False)
    assert (await change(api, key)).json()["max_running"] == 2
    assert (await change(api, key, max_running=None)).json()["max_running"] is None


@sqlite_only
async def test_bad_changes_are_refused(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir)
    for body in ({"max_running": 0}, {"max_running": "2"}, {"pinned": 1}, {"weight": 1}):
        assert (await change(api, key, **body)).status_code == 400, body
    missing = await api.client.patch("/api/v1/adapters/b", json={}, headers=bearer(key))
    assert missing.status_code == 404
    foreign = bearer(await api.tenant("globex"))
    assert (
        await api.client.patch("/api/v1/adapters/a", json={}, headers=foreign)
    ).status_code == 404
