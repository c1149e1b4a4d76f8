"""Tenants and their keys over HTTP."""

from sqlalchemy import select

from loraplex.platform.db.models import AuditEntry
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)


async def test_tenants_are_listed_by_name_in_pages(api: Api) -> None:
    for name in ("c", "a", "b"):
        answer = await api.client.post("/api/v1/tenants", json={"name": name}, headers=OPS)
        assert (answer.status_code, answer.json()["name"]) == (201, name)
    page = (await api.client.get("/api/v1/tenants?limit=2", headers=OPS)).json()
    assert ([t["name"] for t in page["data"]], page["next"]) == (["a", "b"], "b")
    page = (await api.client.get("/api/v1/tenants?limit=2&after=b", headers=OPS)).json()
    assert ([t["name"] for t in page["data"]], page["next"]) == (["c"], None)


async def test_a_name_is_taken_once(api: Api) -> None:
    await api.tenant("acme")
    answer = await api.client.post("/api/v1/tenants", json={"name": "acme"}, headers=OPS)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.headers["x-should-retry"] == "false"


@sqlite_only
async def test_bad_tenant_names(api: Api) -> None:
    for name in ("", "Upper", "a/b", "a b", "-a", "x" * 64, "a@b", "a\n", 7, None):
        answer = await api.client.post("/api/v1/tenants", json={"name": name}, headers=OPS)
        assert (answer.status_code, answer.json()["param"]) == (400, "name"), name


async def test_keys_show_their_secret_once(api: Api) -> None:
    key = await api.tenant("acme")
    listed = (await api.client.get("/api/v1/tenants/acme/keys", headers=OPS)).json()["data"]
    assert len(listed) == 1
    assert "key" not in listed[0]
    assert listed[0]["scopes"] == ["adapters:read", "adapters:write", "inference", "usage"]
    assert listed[0]["hint"] == f"…{key[-4:]}"
    assert key.split("_")[3] not in str(listed)


async def test_an_admin_key_manages_the_keys_of_its_tenant_only(api: Api) -> None:
    admin = bearer(await api.tenant("acme", "admin"))
    await api.tenant("globex")
    made = await api.client.post("/api/v1/tenants/acme/keys", json={"name": "ci"}, headers=admin)
    assert made.status_code == 201
    foreign = await api.client.get("/api/v1/tenants/globex/keys", headers=admin)
    absent = await api.client.get("/api/v1/tenants/globez/keys", headers=admin)
    assert foreign.status_code == absent.status_code == 404
    assert foreign.text.replace("globex", "globez") == absent.text


async def test_a_key_of_another_tenant_cannot_be_named(api: Api) -> None:
    await api.tenant("acme")
    foreign = (await api.tenant("globex")).split("_")[2]
    path = f"/api/v1/tenants/acme/keys/{foreign}"
    assert (await api.client.get(path, headers=OPS)).status_code == 404
    assert (await api.client.delete(path, headers=OPS)).status_code == 404


@sqlite_only
async def test_unknown_scopes_and_fields_are_refused(api: Api) -> None:
    await api.tenant("acme")
    for body in ({"scopes": ["root"]}, {"scope": ["inference"]}, {"name": "x" * 101}):
        answer = await api.client.post("/api/v1/tenants/acme/keys", json=body, headers=OPS)
        assert answer.status_code == 400, body


async def test_changes_are_audited_without_secrets(api: Api) -> None:
    key = await api.tenant("acme")
    await api.client.delete(f"/api/v1/tenants/acme/keys/{key.split('_')[2]}", headers=OPS)
    async with api.database.main.reading(EVERY_TENANT) as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    assert [e.action for e in entries] == ["tenant.create", "key.create", "key.revoke"]
    assert len({e.tenant_id for e in entries}) == 1
    assert all(key not in str(vars(e)) for e in entries)
