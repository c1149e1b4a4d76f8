"""The live state of an engine, the ledger and the proof of deletion, on a real server."""

import asyncio
import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from support.patience import PATIENCE_SECONDS
from support.serve import Serve, Tenant
from support.services import bearer

pytestmark = pytest.mark.e2e


def adapters_of(client: httpx.Client, base: str) -> dict[str, dict[str, object]]:
    """What the engine says of each adapter, by digest."""
    answer = client.get("/api/v1/engine")
    answer.raise_for_status()
    return {adapter["digest"]: adapter for adapter in answer.json()[base]["adapters"]}


def digest(tenant: Tenant, name: str) -> str:
    found: str = tenant.http.get(f"/api/v1/adapters/{name}/versions/1").json()["digest"]
    return found


def rows_of(server: Serve, tenant: Tenant, count: int) -> list[dict[str, object]]:
    """The tenant's ledger once it has `count` requests that have ended."""

    def rows() -> list[dict[str, object]]:
        found: list[dict[str, object]] = tenant.http.get("/api/v1/requests").json()["data"]
        return [row for row in found if row["state"] == "settled"]

    server.wait(lambda: len(rows()) >= count)
    assert len(rows()) == count
    return rows()


def test_an_adapter_from_push_to_proven_deletion(server: Serve, adapters: list[Path]) -> None:
    tenant, other = server.tenant("shown"), server.tenant("onlooker")
    for each in (tenant, other):  # equal files
        assert each.push("fox", adapters[1]).status_code == 201
    mine = digest(tenant, "fox")
    listed = server.operator.get("/api/v1/tenants?limit=1000").json()["data"]
    owner = next(each["id"] for each in listed if each["name"] == "shown")
    assert adapters_of(tenant.http, tenant.base) == {}, "in the database only"

    answer = tenant.complete(model="fox", prompt="Hello", max_tokens=7, ignore_eos=True)
    assert answer.status_code == 200

    def is_kept() -> bool:
        # The file is written behind the request's back, and what lies below the device is told once a second.
        return bool(adapters_of(tenant.http, tenant.base).get(mine, {}).get("disk_bytes"))

    server.wait(is_kept)
    (shown,) = adapters_of(tenant.http, tenant.base).values()
    assert (shown["tenant"], shown["adapter"], shown["version"]) == ("shown", "fox", 1)
    assert (shown["tier"], shown["loads"], shown["requests"]) == ("device", 1, 1)
    assert (shown["output_tokens"], shown["running"], shown["waiting"]) == (7, 0, 0)
    assert all(int(str(shown[f"{tier}_bytes"])) > 0 for tier in ("device", "host", "disk"))
    assert adapters_of(other.http, other.base) == {}
    tenants = {a["tenant"] for a in adapters_of(server.operator, tenant.base).values()}
    assert "shown" in tenants

    path = "/api/v1/adapters/fox?tenant=shown"
    assert server.operator.patch(path, json={"pinned": True}).status_code == 200
    server.wait(lambda: adapters_of(tenant.http, tenant.base)[mine]["pinned"] is True)

    files = set((server.log.parent / "cache").rglob("*.safetensors"))
    assert tenant.http.delete("/api/v1/adapters/fox").status_code == 204
    # Done when the answer is there, not some time later.
    everybody = server.operator.get("/api/v1/engine").json()[tenant.base]["adapters"]
    # Its tenant by name, or by id if the adapter has no name any more; others may have equal files.
    assert not {"shown", owner} & {adapter["tenant"] for adapter in everybody}
    assert len(files - set((server.log.parent / "cache").rglob("*.safetensors"))) == 1
    assert tenant.complete(model="fox", prompt="Hello").status_code == 404
    with sqlite3.connect(server.log.parent / "loraplex.db") as database:
        query = "SELECT detail FROM audit WHERE action = 'adapter.delete' AND target = 'fox' ORDER BY id DESC"
        (detail,) = database.execute(query).fetchone()
    proof = json.loads(detail)["engines"][tenant.base]
    assert proof["device_pages_zeroed"] >= 1
    assert proof["host_entries_removed"] == proof["disk_files_removed"] == 1
    # The ledger still knows what was served.
    (row,) = rows_of(server, tenant, 1)
    assert (row["adapter"], row["version"], row["digest"]) == ("fox", 1, mine)


def test_where_the_time_of_a_request_went(server: Serve, adapters: list[Path]) -> None:
    tenant = server.tenant("timed")
    assert tenant.push("fox", adapters[2]).status_code == 201
    for model in ("fox", tenant.base):
        answer = tenant.complete(model=model, prompt="Hello", max_tokens=6, ignore_eos=True, n=2)
        assert answer.status_code == 200
    rows = rows_of(server, tenant, 2)
    assert {row["finish_reason"] for row in rows} == {"length"}
    assert sorted((row["adapter"] or "", row["choices"]) for row in rows) == [("", 2), ("fox", 2)]
    for row in rows:
        parts = [row[f"{part}_ms"] for part in ("queue", "load", "prefill", "decode")]
        assert all(isinstance(part, float) and part >= 0 for part in parts)
        # All of the engine's time, and the worker's own on top.
        assert 0 < sum(map(float, map(str, parts))) <= float(str(row["total_ms"]))
        if row["adapter"] is None:
            assert row["load_ms"] == 0
        else:
            assert float(str(row["load_ms"])) > 0
    whole = server.operator.get("/metrics").text
    assert 'loraplex_load_seconds_count{base_model="org/tiny"}' in whole


def test_limits_reach_the_engine(server: Serve, adapters: list[Path]) -> None:
    tenant = server.tenant("limited")
    assert tenant.push("fox", adapters[0]).status_code == 201
    assert tenant.push("owl", adapters[3]).status_code == 201
    fox, owl = digest(tenant, "fox"), digest(tenant, "owl")
    assert tenant.http.patch("/api/v1/adapters/fox", json={"max_running": 1}).is_success
    assert server.operator.patch("/api/v1/tenants/limited", json={"max_running": 2}).is_success

    def now(name: str) -> tuple[object, object]:
        state = adapters_of(tenant.http, tenant.base).get(name, {})
        return state.get("running"), state.get("waiting")

    async def run() -> None:
        async with httpx.AsyncClient(
            base_url=tenant.url,
            headers=bearer(tenant.key),
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        ) as client:

            def ask(name: str) -> asyncio.Task[httpx.Response]:
                body = {"model": name, "prompt": "x", "max_tokens": 16000, "ignore_eos": True}
                return asyncio.create_task(client.post("/v1/completions", json=body))

            asked = [ask("fox"), ask("fox")]
            await asyncio.to_thread(server.wait, lambda: now(fox) == (1, 1))
            asked += [ask("owl"), ask("owl"), ask("owl")]
            # One of the tenant's two places is the fox's.
            await asyncio.to_thread(server.wait, lambda: now(owl) == (1, 2))
            assert now(fox) == (1, 1)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(run())
    server.wait(lambda: now(fox) == now(owl) == (0, 0))
    # Those that ran were stopped.
    assert {row["finish_reason"] for row in rows_of(server, tenant, 5)} == {"cancelled"}


def test_a_client_that_left_is_in_the_ledger(server: Serve) -> None:
    tenant = server.tenant("leaver")
    body = {"model": tenant.base, "prompt": "x", "max_tokens": 16000, "ignore_eos": True}
    with tenant.http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        next(answer.iter_lines())
    (row,) = rows_of(server, tenant, 1)
    assert row["finish_reason"] == "cancelled"
    assert int(str(row["output_tokens"])) >= 1
    assert row["first_token_ms"] is not None
