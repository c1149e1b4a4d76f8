"""Keys over HTTP: scopes, adapters, changing, rotating, operators' keys, and nobody else's."""

import asyncio

from sqlalchemy import select, update

from loraplex.platform.auth.keys import key_id
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import ApiKey, AuditEntry
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)
KEYS = "/api/v1/tenants/acme/keys"
OPERATORS = "/api/v1/operator/keys"


@sqlite_only
async def test_a_key_with_everything(api: Api) -> None:
    await api.tenant("acme")
    terms = {
        "name": "ci",
        "scopes": ["adapters:read", "inference"],
        "adapters": ["b", "a", "a"],
        "expires_at": "2099-01-01T00:00:00+02:00",
    }
    made = (await api.client.post(KEYS, json=terms, headers=OPS)).json()
    shown = (await api.client.get(f"{KEYS}/{made['id']}", headers=OPS)).json()
    assert shown == {field: value for field, value in made.items() if field != "key"}
    assert shown["scopes"] == ["adapters:read", "inference"]
    assert shown["adapters"] == ["a", "b"]
    assert shown["expires_at"] == "2098-12-31T22:00:00Z"
    assert (shown["last_used_at"], shown["replaces"], shown["revoked_at"]) == (None, None, None)
    assert shown["created_by"] == key_id(OPERATOR)


@sqlite_only
async def test_terms_that_are_refused(api: Api) -> None:
    await api.tenant("acme")
    for terms, param in (
        ({"scopes": ["admin", "inference"]}, "scopes"),
        ({"scopes": ["admin"], "adapters": ["a"]}, "adapters"),
        ({"adapters": ["a b"]}, "adapters[0]"),
        ({"adapters": "a"}, "adapters"),
        ({"adapters": ["a"] * 1001}, "adapters"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": 1}, "expires_at"),
    ):
        answer = await api.client.post(KEYS, json=terms, headers=OPS)
        assert (answer.status_code, answer.json()["param"]) == (400, param), terms


@sqlite_only
async def test_a_key_manages_or_infers(api: Api) -> None:
    admin = bearer(await api.tenant("acme", "admin", "adapters", "usage"))
    assert (await api.client.get("/v1/models", headers=admin)).status_code == 403
    assert (await api.client.get(KEYS, headers=admin)).status_code == 200


async def test_a_key_is_changed_at_once(api: Api) -> None:
    token = await api.tenant("acme")
    path = f"{KEYS}/{token.split('_')[2]}"
    assert (await api.client.get("/v1/models", headers=bearer(token))).status_code == 200
    change = {"name": "new", "adapters": ["a"], "expires_at": "2099-01-01T00:00:00Z"}
    changed = (await api.client.patch(path, json=change, headers=OPS)).json()
    assert {field: changed[field] for field in change} == change
    changed = (await api.client.patch(path, json={"adapters": None}, headers=OPS)).json()
    assert (changed["name"], changed["adapters"]) == ("new", None)
    for wrong in ({"scopes": ["admin"]}, {"name": None}, {"expires_at": "2001-01-01T00:00:00Z"}):
        assert (await api.client.patch(path, json=wrong, headers=OPS)).status_code == 400
    admin = f"{KEYS}/{(await api.tenant('acme', 'admin')).split('_')[2]}"
    assert (await api.client.patch(admin, json={"adapters": []}, headers=OPS)).status_code == 400
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action == "key.change").order_by(AuditEntry.id)
        first, second = (await session.scalars(query)).all()
    assert (first.before or {})["adapters"] is None
    assert first.after == second.before
    assert (second.after or {})["name"] == "new"


@sqlite_only
async def test_rotation_over_http(api: Api) -> None:
    old = await api.tenant("acme")
    path = f"{KEYS}/{old.split('_')[2]}"
    answer = await api.client.post(f"{path}/rotate", json={"overlap_seconds": 0}, headers=OPS)
    assert answer.status_code == 201
    new = answer.json()
    assert new["replaces"] == old.split("_")[2]
    assert (await api.client.get("/v1/models", headers=bearer(old))).status_code == 401
    assert (await api.client.get("/v1/models", headers=bearer(new["key"]))).status_code == 200
    # No body is a day.
    again = await api.client.post(f"{KEYS}/{new['id']}/rotate", headers=OPS)
    assert again.status_code == 201
    assert (await api.client.get("/v1/models", headers=bearer(new["key"]))).status_code == 200
    for wrong in ({"overlap_seconds": -1}, {"overlap_seconds": 10**9}, {"overlap": 1}):
        last = f"{KEYS}/{again.json()['id']}/rotate"
        assert (await api.client.post(last, json=wrong, headers=OPS)).status_code == 400
    conflict = await api.client.post(f"{path}/rotate", headers=OPS)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")


async def test_of_two_who_rotate_one_key_one_does(api: Api) -> None:
    path = f"{KEYS}/{(await api.tenant('acme')).split('_')[2]}/rotate"
    answers = await asyncio.gather(*(api.client.post(path, headers=OPS) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_key_of_another_tenant_looks_absent(api: Api) -> None:
    foreign = (await api.tenant("globex")).split("_")[2]
    admin = bearer(await api.tenant("acme", "admin"))
    for tenant in ("acme", "globex", "nobody"):
        base = f"/api/v1/tenants/{tenant}/keys"
        for method, tail in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
            there = await api.client.request(
                method, f"{base}/{foreign}{tail}", json={}, headers=admin
            )
            absent = await api.client.request(
                method, f"{base}/{'0' * 12}{tail}", json={}, headers=admin
            )
            assert there.status_code == absent.status_code == 404, (tenant, method)
            assert there.text.replace(foreign, "0" * 12) == absent.text
    own = await api.client.get(f"/api/v1/tenants/globex/keys/{foreign}", headers=OPS)
    assert own.json()["revoked_at"] is None


async def test_operators_keys(api: Api) -> None:
    made = await api.client.post(OPERATORS, json={"name": "second"}, headers=OPS)
    assert made.status_code == 201
    second = made.json()
    assert (second["tenant"], second["scopes"], second["adapters"]) == (None, [], None)
    headers = bearer(second["key"])
    listed = (await api.client.get(OPERATORS, headers=headers)).json()["data"]
    assert {key["id"] for key in listed} == {key_id(OPERATOR), second["id"]}
    assert all("key" not in key for key in listed)
    one = await api.client.get(f"{OPERATORS}/{second['id']}", headers=OPS)
    assert one.json()["name"] == "second"
    assert (await api.client.get("/v1/models", headers=headers)).status_code == 403
    wrong = await api.client.post(OPERATORS, json={"scopes": ["inference"]}, headers=OPS)
    assert wrong.status_code == 400
    # It is not one of a tenant, nor a tenant's one of these.
    theirs = (await api.tenant("acme")).split("_")[2]
    for path in (f"{OPERATORS}/{theirs}", f"{KEYS}/{second['id']}"):
        assert (await api.client.get(path, headers=OPS)).status_code == 404
        assert (await api.client.delete(path, headers=OPS)).status_code == 404
    assert (await api.client.delete(f"{OPERATORS}/{second['id']}", headers=OPS)).status_code == 204
    assert (await api.client.get(OPERATORS, headers=headers)).status_code == 401
    last = await api.client.delete(f"{OPERATORS}/{key_id(OPERATOR)}", headers=OPS)
    assert (last.status_code, last.json()["code"]) == (409, "conflict")
    for scopes in (("admin", "adapters", "usage"), ()):
        tenant = bearer(await api.tenant("acme", *scopes))
        assert (await api.client.get(OPERATORS, headers=tenant)).status_code == 403


async def test_two_operators_cannot_shut_each_other_out(api: Api) -> None:
    second = (await api.client.post(OPERATORS, json={}, headers=OPS)).json()["id"]
    answers = await asyncio.gather(
        *(
            api.client.delete(f"{OPERATORS}/{key}", headers=OPS)
            for key in (key_id(OPERATOR), second)
        )
    )
    # The one who comes second finds the own key gone already, or is told that it is the last.
    assert [answer.status_code for answer in answers].count(204) == 1
    async with api.database.main.reading(EVERY_TENANT) as session:
        rows = (await session.scalars(select(ApiKey).where(ApiKey.tenant_id.is_(None)))).all()
    assert [row.revoked_at is None for row in rows].count(True) == 1


@sqlite_only
async def test_operators_keys_that_ended_do_not_count(api: Api) -> None:
    for ended in ("revoked_at", "expires_at"):
        second = (await api.client.post(OPERATORS, json={}, headers=OPS)).json()["id"]
        async with api.database.main.writing(EVERY_TENANT) as session:
            values = {ended: utc_now()}
            await session.execute(update(ApiKey).where(ApiKey.id == second).values(**values))
        last = await api.client.delete(f"{OPERATORS}/{key_id(OPERATOR)}", headers=OPS)
        assert last.status_code == 409, ended
