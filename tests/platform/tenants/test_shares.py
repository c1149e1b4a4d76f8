"""Weights and limits of tenants: set by operators, and known to requests within seconds."""

from uuid import UUID

from loraplex.platform.tenants import shares as shares_module
from loraplex.platform.tenants.shares import Shares
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)


async def test_an_operator_changes_weight_and_limit(api: Api) -> None:
    await api.tenant("acme")
    path = "/api/v1/tenants/acme"
    made = (await api.client.get("/api/v1/tenants", headers=OPS)).json()["data"][0]
    assert (made["weight"], made["max_running"]) == (1.0, None)
    changed = await api.client.patch(path, json={"weight": 2.5, "max_running": 8}, headers=OPS)
    assert (changed.status_code, changed.json()["weight"]) == (200, 2.5)
    changed = await api.client.patch(path, json={"max_running": None}, headers=OPS)
    assert (changed.json()["weight"], changed.json()["max_running"]) == (2.5, None)
    absent = await api.client.patch("/api/v1/tenants/nobody", json={}, headers=OPS)
    assert absent.status_code == 404


@sqlite_only
async def test_bad_weights_and_limits_are_refused(api: Api) -> None:
    await api.tenant("acme")
    for body in (
        {"weight": 0},
        {"weight": -1},
        {"weight": 1e9},
        {"weight": None},
        {"max_running": 0},
        {"max_running": 1.5},
        {"name": "other"},
    ):
        answer = await api.client.patch("/api/v1/tenants/acme", json=body, headers=OPS)
        assert answer.status_code == 400, body
    own = bearer(await api.tenant("acme", "admin"))
    answer = await api.client.patch("/api/v1/tenants/acme", json={"weight": 9}, headers=own)
    assert answer.status_code == 403


async def test_shares_are_remembered_for_a_few_seconds(api: Api) -> None:
    await api.tenant("acme")
    now = 100.0
    shares = Shares(api.database, lambda: now)
    listed = (await api.client.get("/api/v1/tenants", headers=OPS)).json()["data"][0]
    tenant_id = UUID(listed["id"])
    assert await shares.of(tenant_id) == (1.0, None)
    await api.client.patch(
        "/api/v1/tenants/acme", json={"weight": 3, "max_running": 4}, headers=OPS
    )
    assert await shares.of(tenant_id) == (1.0, None)
    now += shares_module.REMEMBER_SECONDS
    assert await shares.of(tenant_id) == (3.0, 4)
    await api.client.patch("/api/v1/tenants/acme", json={"weight": 5}, headers=OPS)
    shares.forget(tenant_id)
    assert await shares.of(tenant_id) == (5.0, 4)
