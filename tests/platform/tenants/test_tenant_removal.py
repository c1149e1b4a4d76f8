"""Tenants seen and changed, and deleted with everything but their books."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from loraplex.platform.db.base import Base, TenantOwned, utc_now
from loraplex.platform.db.models import (
    AuditEntry,
    Job,
    LedgerEntry,
    Limit,
    Membership,
    Meter,
    OneTimeCode,
    Tenant,
    UsageRollup,
    User,
    Webhook,
)
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import Purged
from support.services import OPERATOR, Api, adapter_files, bearer, sqlite_only

OPS = bearer(OPERATOR)
ACME = "/api/v1/tenants/acme"
KEPT = {"audit", "ledger", "usage_rollup"}


async def tenant_of(api: Api, name: str) -> Tenant:
    async with api.database.main.reading(EVERY_TENANT) as session:
        return (await session.scalars(select(Tenant).where(Tenant.name == name))).one()


async def test_a_tenant_sees_itself_and_operators_change_it(api: Api) -> None:
    admin = bearer(await api.tenant("acme", "admin"))
    await api.tenant("globex")
    change = {"storage_limit": 5 * 2**30, "ledger_days": 30, "weight": 2.0, "max_running": 3}
    changed = await api.client.patch(ACME, json=change, headers=OPS)
    shown = (await api.client.get(ACME, headers=admin)).json()
    assert changed.json() == shown
    assert {field: shown[field] for field in change} == change
    changed = await api.client.patch(ACME, json={"storage_limit": None}, headers=OPS)
    assert (changed.json()["storage_limit"], changed.json()["ledger_days"]) == (None, 30)
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action == "tenant.change")
        first, second = (await session.scalars(query.order_by(AuditEntry.id))).all()
    assert first.after == second.before == change
    assert second.after == {**change, "storage_limit": None}
    for method in ("GET", "PATCH", "DELETE"):
        foreign = await api.client.request(method, "/api/v1/tenants/globex", json={}, headers=admin)
        absent = await api.client.request(method, "/api/v1/tenants/globez", json={}, headers=admin)
        assert foreign.status_code == absent.status_code == 404, method
        assert foreign.text.replace("globex", "globez") == absent.text
    for method in ("PATCH", "DELETE"):
        own = await api.client.request(method, ACME, json={}, headers=admin)
        assert own.status_code == 403


@sqlite_only
async def test_bad_changes_are_refused(api: Api) -> None:
    await api.tenant("acme")
    for body in ({"storage_limit": -1}, {"storage_limit": 2**60}, {"ledger_days": 0}):
        assert (await api.client.patch(ACME, json=body, headers=OPS)).status_code == 400, body


@sqlite_only
async def test_deletion_must_be_confirmed(api: Api) -> None:
    await api.tenant("acme")
    for query in ("", "?confirm=", "?confirm=acm", "?confirm=globex"):
        answer = await api.client.delete(f"{ACME}{query}", headers=OPS)
        assert (answer.status_code, answer.json()["param"]) == (400, "confirm"), query
    assert (await api.client.get(ACME, headers=OPS)).status_code == 200
    absent = await api.client.delete("/api/v1/tenants/nobody?confirm=nobody", headers=OPS)
    assert absent.status_code == 404


async def furnish(api: Api, tenant: Tenant) -> None:
    """Give a tenant one of everything."""
    now = utc_now()
    own = {"tenant_id": tenant.id}
    async with api.database.main.writing(EVERY_TENANT) as session:
        session.add(User(id="usr_12345678", email="a@example.com"))
        await session.flush()
        session.add_all(
            [
                Membership(**own, user_id="usr_12345678", role="owner"),
                OneTimeCode(**own, sha256="x", purpose="invitation", expires_at=now),
                Webhook(**own, url="https://example.com", secret="s", events=[], created_by="op"),
                Job(**own, kind="import", request={}, created_by="op"),
                Limit(**own, subject="tenant", subject_id=str(tenant.id), max_concurrent=1),
                Meter(**own, subject="tenant", subject_id=str(tenant.id), window=[], month=""),
                LedgerEntry(
                    **own,
                    key_id="k",
                    answer_id="a",
                    base_model="tiny",
                    finish_reason="stop",
                    prompt_tokens=1,
                    cached_tokens=0,
                    output_tokens=1,
                    total_ms=1.0,
                    preemptions=0,
                ),
                UsageRollup(
                    **own,
                    unit="d",
                    start=now,
                    key_id="k",
                    base_model="tiny",
                    adapter="",
                    version=0,
                    requests=1,
                    errors=0,
                    prompt_tokens=1,
                    cached_tokens=0,
                    output_tokens=1,
                    cost_nanos=0,
                ),
            ]
        )


async def rows_of(api: Api, tenant: Tenant) -> dict[str, int]:
    """How many rows each table has of a tenant."""
    found = {}
    async with api.database.main.reading(EVERY_TENANT) as session:
        for mapper in Base.registry.mappers:
            if issubclass(mapper.class_, TenantOwned):
                column = mapper.class_.tenant_id
                count = select(func.count()).select_from(mapper.class_).where(column == tenant.id)
                found[mapper.local_table.description] = await session.scalar(count) or 0
    return found


async def test_a_deleted_tenant_leaves_its_books_and_nothing_else(
    api: Api, adapter_dir: Path, other_adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    neighbour = await api.tenant("globex")
    assert (await api.push(neighbour, adapter_dir)).status_code == 201
    theirs = await api.stored()
    for name, files in (("a", adapter_dir), ("b", other_adapter_dir), ("b", adapter_dir)):
        assert (await api.push(key, files, name, alias="prod")).status_code == 201
    weights = (other_adapter_dir / "adapter_model.safetensors").read_bytes()
    upload = await api.client.post(
        "/api/v1/uploads",
        headers=bearer(key),
        json={
            "name": "c",
            "size": len(weights),
            "sha256": "0" * 64,
            "config": (other_adapter_dir / "adapter_config.json").read_text(),
        },
    )
    assert upload.status_code == 201, upload.text
    sent = await api.client.put(
        f"/api/v1/uploads/{upload.json()['id']}", headers=bearer(key), content=weights[:5000]
    )
    assert sent.status_code == 200, sent.text
    tenant = await tenant_of(api, "acme")
    await furnish(api, tenant)

    answer = await api.client.delete(f"{ACME}?confirm=acme", headers=OPS)
    assert answer.status_code == 204, answer.text

    assert (await api.client.get("/v1/models", headers=bearer(key))).status_code == 401
    assert (await api.client.get(ACME, headers=OPS)).status_code == 404
    left = await rows_of(api, tenant)
    assert {table for table, count in left.items() if count} == KEPT
    assert (left["ledger"], left["usage_rollup"]) == (1, 1)
    # The neighbour has the same files and keeps them.
    assert await api.stored() == theirs
    assert [api.engines.purged.count(one) for one in set(api.engines.purged)] == [2, 2]
    assert all(str(tenant.id) in identity for _, identity in api.engines.purged)
    async with api.database.main.reading(EVERY_TENANT) as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    last = entries[-1]
    assert (last.action, last.target, last.tenant_id) == ("tenant.delete", "acme", tenant.id)
    assert (last.detail["adapters"], last.detail["keys"]) == (2, 1)
    proofs = [e.detail["engines"] for e in entries if e.action == "adapter.delete"]
    assert len(proofs) == 2
    # One of the two had nothing to prove: the other had the same files at that moment.
    assert {"tiny"} in [set(proof) for proof in proofs if isinstance(proof, dict)]
    # The name can be used again, and means another.
    await api.tenant("acme")
    assert (await tenant_of(api, "acme")).id != tenant.id


async def test_a_deletion_that_broke_off_is_taken_up_again(
    api: Api, adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir, "a")
    await api.push(key, adapter_dir, "b")
    tenant = await tenant_of(api, "acme")

    async def break_off(base: str, identity: str) -> None:
        raise RuntimeError(base, identity)

    with monkeypatch.context() as patch:
        patch.setattr(api.engines, "purge", break_off)
        broken = await api.client.delete(f"{ACME}?confirm=acme", headers=OPS)
    assert broken.status_code == 500
    # Nobody gets in from the first moment on.
    assert (await api.client.get("/v1/models", headers=bearer(key))).status_code == 401
    again = await api.client.delete(f"{ACME}?confirm=acme", headers=OPS)
    assert again.status_code == 204
    assert {table for table, count in (await rows_of(api, tenant)).items() if count} <= KEPT


@sqlite_only
async def test_what_was_pushed_meanwhile_goes_too(
    api: Api, adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir, "a")
    tenant = await tenant_of(api, "acme")
    purge = api.engines.purge
    pushed: list[httpx.Response] = []

    async def push_meanwhile(base: str, identity: str) -> Purged | None:
        if not pushed:
            answer = await api.client.post(
                "/api/v1/adapters?tenant=acme",
                headers=OPS,
                data={"name": "late"},
                files=adapter_files(adapter_dir),
            )
            pushed.append(answer)
        return await purge(base, identity)

    monkeypatch.setattr(api.engines, "purge", push_meanwhile)
    answer = await api.client.delete(f"{ACME}?confirm=acme", headers=OPS)
    assert (answer.status_code, pushed[0].status_code) == (204, 201)
    assert (await rows_of(api, tenant))["adapter"] == 0
    assert await api.stored() == (0, 0, 0)
