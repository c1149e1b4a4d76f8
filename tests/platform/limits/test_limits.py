"""Limits of tenants, keys and adapters: who sets them, what they look like, and who sees nothing of them."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import func, select

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.models import Adapter, AuditEntry, Limit, Meter, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.limits.service import Limited, LimitService
from loraplex.platform.metering.limits import KEY
from loraplex.platform.metering.meter import SLOT_SECONDS, slot_of
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)
LIMITS = "/api/v1/tenants/acme/limits"
NOTHING = {
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "max_concurrent": None,
    "tokens_per_month": None,
    "cost_per_month": None,
}


async def add_adapter(api: Api, tenant: str, name: str) -> None:
    async with api.database.main.writing(EVERY_TENANT) as session:
        owner = (await session.scalars(select(Tenant).where(Tenant.name == tenant))).one()
        session.add(Adapter(tenant_id=owner.id, name=name, last_version=0))


async def count(api: Api) -> tuple[int, int]:
    """How many limits and meters there are."""
    async with api.database.main.reading(EVERY_TENANT) as session:
        limits = await session.scalar(select(func.count()).select_from(Limit))
        meters = await session.scalar(select(func.count()).select_from(Meter))
    return limits or 0, meters or 0


async def test_limits_are_set_replaced_and_removed(api: Api) -> None:
    admin = await api.tenant("acme", "admin")
    await add_adapter(api, "acme", "a")
    for headers, path, subject, name in (
        (OPS, LIMITS, "tenant", "acme"),
        (bearer(admin), f"{LIMITS}/keys/{admin.split('_')[2]}", "key", admin.split("_")[2]),
        (bearer(admin), f"{LIMITS}/adapters/a", "adapter", "a"),
    ):
        none = {"subject": subject, "name": name, **NOTHING, "used": None}
        assert (await api.client.get(path, headers=bearer(admin))).json() == none
        wanted = {
            "requests_per_minute": 60,
            "tokens_per_minute": 10**12,
            "max_concurrent": 0,
            "tokens_per_month": 5,
            "cost_per_month": "12.500000001",
        }
        answer = await api.client.put(path, json=wanted, headers=headers)
        assert (answer.status_code, answer.json()) == (
            200,
            {**none, **wanted, "cost_per_month": 12.500000001},
        )
        answer = await api.client.put(path, json={"max_concurrent": 7}, headers=headers)
        assert answer.json() == {**none, "max_concurrent": 7}
        for _ in range(2):
            assert (await api.client.delete(path, headers=headers)).status_code == 204
        assert (await api.client.get(path, headers=headers)).json() == none
    assert await count(api) == (0, 0)
    async with api.database.main.reading(EVERY_TENANT) as session:
        query = select(AuditEntry).where(AuditEntry.action.like("limit.%")).order_by(AuditEntry.id)
        entries = (await session.scalars(query)).all()
    assert [e.action for e in entries] == ["limit.set", "limit.set", "limit.clear"] * 3
    first, second, third = entries[:3]
    assert (first.target, first.detail, first.before) == ("acme", {"subject": "tenant"}, None)
    assert first.after == second.before
    assert second.after == third.before == {**NOTHING, "max_concurrent": 7}
    assert third.after is None


@sqlite_only
async def test_limits_that_are_refused(api: Api) -> None:
    await api.tenant("acme")
    for body in (
        {"requests_per_minute": -1},
        {"requests_per_minute": 1.5},
        {"requests_per_minute": 2**31},
        {"tokens_per_month": 2**63},
        {"cost_per_month": "-1"},
        {"cost_per_month": "1e999999999"},
        {"cost_per_month": 0.0000000001},
        {"tpm": 3},
    ):
        answer = await api.client.put(LIMITS, json=body, headers=OPS)
        assert (answer.status_code, answer.json()["param"]) == (400, next(iter(body))), body
    assert await count(api) == (0, 0)


@sqlite_only
async def test_a_tenant_limits_its_keys_and_not_itself(api: Api) -> None:
    admin = bearer(await api.tenant("acme", "admin"))
    plain = bearer(await api.tenant("acme"))
    for method, headers in (("PUT", admin), ("DELETE", admin), ("GET", plain), ("PUT", plain)):
        answer = await api.client.request(method, LIMITS, json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), method
    for method, path in (("GET", "keys/x"), ("PUT", "adapters/a")):
        answer = await api.client.request(method, f"{LIMITS}/{path}", json={}, headers=plain)
        assert answer.status_code == 403
    assert await count(api) == (0, 0)


async def test_another_tenants_limits_look_absent(api: Api) -> None:
    key = (await api.tenant("globex")).split("_")[2]
    await add_adapter(api, "globex", "theirs")
    admin = bearer(await api.tenant("acme", "admin"))
    for method in ("GET", "PUT", "DELETE"):
        for path, there, absent in (
            ("/api/v1/tenants/{}/limits", "globex", "globez"),
            ("/api/v1/tenants/{}/limits/keys/" + key, "globex", "globez"),
            (LIMITS + "/keys/{}", key, "0" * 12),
            (LIMITS + "/adapters/{}", "theirs", "theirz"),
            ("/api/v1/tenants/globex/limits/adapters/{}", "theirs", "theirz"),
        ):
            pair = [
                await api.client.request(method, path.format(name), json={}, headers=admin)
                for name in (there, absent)
            ]
            assert [answer.status_code for answer in pair] == [404, 404], (method, path)
            assert pair[0].text.replace(there, absent) == pair[1].text
    assert await count(api) == (0, 0)


async def test_what_is_used_is_shown(api: Api) -> None:
    token = await api.tenant("acme")
    key = token.split("_")[2]
    path = f"{LIMITS}/keys/{key}"
    await api.client.put(path, json={"tokens_per_month": 100}, headers=OPS)
    now = datetime(2031, 5, 31, 23, 59, 30, tzinfo=UTC)
    slot = slot_of(now)
    async with api.database.main.writing(EVERY_TENANT) as session:
        limit = (await session.scalars(select(Limit))).one()
        tenant_id = limit.tenant_id
        session.add(
            Meter(
                tenant_id=tenant_id,
                subject="key",
                subject_id=key,
                running=2,
                window=[[slot - 1000, 9, 900], [slot - 1, 1, 10], [slot, 2, 20]],
                month="2031-05",
                month_tokens=70,
                month_cost_nanos=1_500_000_000,
            )
        )
    actor = Principal(actor_id="op", is_operator=True)
    service = LimitService(api.database, lambda: now)
    _, meter = await service.get(actor, Limited(tenant_id, KEY, key))
    assert meter is not None
    assert (meter.running, meter.minute_requests, meter.minute_tokens) == (2, 3, 30)
    assert (meter.month_tokens, meter.month_cost_nanos) == (70, 1_500_000_000)
    now = datetime(2031, 6, 1, 0, 0, 0, tzinfo=UTC)
    _, meter = await service.get(actor, Limited(tenant_id, KEY, key))
    assert meter is not None
    assert (meter.month, meter.month_tokens, meter.month_cost_nanos) == ("2031-06", 0, 0)
    assert meter.minute_tokens == (30 if SLOT_SECONDS <= 60 else 0)
    shown = (await api.client.get(path, headers=OPS)).json()["used"]
    assert shown["running"] == 2
    assert set(shown) == {
        "running",
        "requests_last_minute",
        "tokens_last_minute",
        "month",
        "tokens_this_month",
        "cost_this_month",
    }
    # Without limits nothing is counted, so what was counted would be wrong when there are some again.
    await api.client.delete(path, headers=OPS)
    assert await count(api) == (0, 0)


async def test_of_many_who_set_one_limit_each_follows_another(api: Api) -> None:
    key = (await api.tenant("acme")).split("_")[2]
    await add_adapter(api, "acme", "a")
    for subject, tail in (("tenant", ""), ("key", f"/keys/{key}"), ("adapter", "/adapters/a")):
        answers = await asyncio.gather(
            *(
                api.client.put(LIMITS + tail, json={"max_concurrent": n}, headers=OPS)
                for n in range(1, 7)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * 6
        # What another has set since is not the answer to this request.
        assert [answer.json()["max_concurrent"] for answer in answers] == list(range(1, 7))
        async with api.database.main.reading(EVERY_TENANT) as session:
            query = select(AuditEntry).where(AuditEntry.action == "limit.set")
            entries = (await session.scalars(query)).all()
        changes = [entry for entry in entries if entry.detail["subject"] == subject]
        # Each names the one before it: only the last is nobody's `before`.
        assert len({str(entry.before) for entry in changes}) == 6
        last = [e.after for e in changes if e.after not in [other.before for other in changes]]
        shown = (await api.client.get(LIMITS + tail, headers=OPS)).json()
        assert [(after or {})["max_concurrent"] for after in last] == [shown["max_concurrent"]]
    assert await count(api) == (3, 0)
