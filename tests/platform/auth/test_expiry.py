"""Keys that end by themselves, and keys that are replaced: with clocks of the tests' own."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.key_service import KeyService, NewKeyTerms
from loraplex.platform.auth.principal import DEFAULT_SCOPES, Principal, Scope
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import (
    ApiKey,
    Limit,
    Meter,
    Tenant,
    UsageRollup,
    Webhook,
    WebhookDelivery,
)
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError, BadRequestError, ConflictError
from support.services import sqlite_only

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TERMS = NewKeyTerms("ci", DEFAULT_SCOPES)


@dataclass
class Desk:
    """A tenant, and a service and an authenticator whose time is `now`; what is remembered never goes stale."""

    database: Database
    tenant: Tenant
    now: datetime = NOON
    actor: Principal = field(default_factory=lambda: Principal(actor_id="op", is_operator=True))

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(self.database, lambda: 0.0, lambda: self.now)
        self.keys = KeyService(self.database, self.authenticator, lambda: self.now)

    async def create(self, terms: NewKeyTerms = TERMS) -> tuple[ApiKey, str]:
        return await self.keys.create(self.actor, self.tenant.id, terms)

    async def rotate(self, key_id: str, overlap: timedelta) -> tuple[ApiKey, str]:
        return await self.keys.rotate(self.actor, self.tenant.id, key_id, overlap)

    async def lets_in(self, token: str) -> bool:
        try:
            await self.authenticator.authenticate(f"Bearer {token}")
        except AuthenticationError:
            return False
        return True


@pytest.fixture
async def desk(database: Database) -> Desk:
    tenant = Tenant(name="acme")
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(tenant)
    return Desk(database, tenant)


async def test_a_key_ends_at_its_very_second_though_it_is_remembered(desk: Desk) -> None:
    _, token = await desk.create(TERMS._replace(expires_at=NOON + HOUR))
    desk.now = NOON + HOUR - timedelta(microseconds=1)
    assert await desk.lets_in(token)
    desk.now = NOON + HOUR
    assert not await desk.lets_in(token)


async def test_an_end_may_come_from_any_zone(desk: Desk) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    moment = (NOON + HOUR).astimezone(india)
    key, _ = await desk.create(TERMS._replace(expires_at=moment))
    stored = await desk.keys.get(desk.tenant.id, key.id)
    for expires_at in (stored.expires_at, key.expires_at):
        assert expires_at == NOON + HOUR
        assert expires_at.tzinfo is UTC


@sqlite_only
async def test_an_end_must_be_to_come_and_within_a_century(desk: Desk) -> None:
    key, token = await desk.create()
    for moment in (
        NOON,
        NOON - HOUR,
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-14 * HOUR)),
        datetime(1, 1, 1, tzinfo=timezone(14 * HOUR)),
    ):
        with pytest.raises(BadRequestError, match="expires_at"):
            await desk.create(TERMS._replace(expires_at=moment))
        with pytest.raises(BadRequestError, match="expires_at"):
            await desk.keys.change(desk.actor, desk.tenant.id, key.id, expires_at=moment)
    assert await desk.lets_in(token)


async def test_a_rotated_key_goes_on_for_the_overlap(desk: Desk) -> None:
    terms = NewKeyTerms("ci", frozenset({Scope.INFERENCE}), frozenset({"b", "a"}), NOON + 10 * HOUR)
    old, old_token = await desk.create(terms)
    desk.now = NOON + 2 * HOUR
    new, new_token = await desk.rotate(old.id, HOUR)
    assert (new.name, new.scopes, new.adapters) == ("ci", ["inference"], ["a", "b"])
    assert new.replaces == old.id
    # It lives as long as the old one was meant to.
    assert new.expires_at == NOON + 12 * HOUR
    assert await desk.lets_in(old_token)
    assert await desk.lets_in(new_token)
    desk.now = NOON + 3 * HOUR
    assert not await desk.lets_in(old_token)
    assert await desk.lets_in(new_token)


async def test_an_overlap_prolongs_nothing_and_may_be_none(desk: Desk) -> None:
    old, token = await desk.create(TERMS._replace(expires_at=NOON + HOUR))
    await desk.rotate(old.id, 5 * HOUR)
    assert (await desk.keys.get(desk.tenant.id, old.id)).expires_at == NOON + HOUR
    other, token = await desk.create()
    new, _ = await desk.rotate(other.id, timedelta(0))
    assert new.expires_at is None
    assert not await desk.lets_in(token)


async def test_a_key_is_rotated_once_and_only_while_it_is_good(desk: Desk) -> None:
    old, _ = await desk.create()
    new, _ = await desk.rotate(old.id, HOUR)
    with pytest.raises(ConflictError, match=new.id):
        await desk.rotate(old.id, HOUR)
    await desk.keys.revoke(desk.actor, desk.tenant.id, new.id)
    brief, _ = await desk.create(TERMS._replace(expires_at=NOON + HOUR))
    desk.now += HOUR
    for ended in (new, brief):
        with pytest.raises(ConflictError, match="ended"):
            await desk.rotate(ended.id, HOUR)
        with pytest.raises(ConflictError, match="ended"):
            await desk.keys.change(desk.actor, desk.tenant.id, ended.id, name="x")


async def test_a_new_key_has_the_limits_and_what_was_used_of_them(desk: Desk) -> None:
    old, _ = await desk.create()
    async with desk.database.main.writing(desk.tenant.id) as session:
        session.add(
            Limit(tenant_id=desk.tenant.id, subject="key", subject_id=old.id, tokens_per_month=90)
        )
        meter = Meter(
            tenant_id=desk.tenant.id,
            subject="key",
            subject_id=old.id,
            running=2,
            window=[[1, 1, 40]],
            month="2031-05",
            month_tokens=70,
        )
        session.add(meter)
    new, _ = await desk.rotate(old.id, HOUR)
    async with desk.database.main.reading(desk.tenant.id) as session:
        limits = {row.subject_id: row for row in await session.scalars(select(Limit))}
        meters = {row.subject_id: row for row in await session.scalars(select(Meter))}
    assert limits[old.id].tokens_per_month == limits[new.id].tokens_per_month == 90
    kept = meters[new.id]
    assert (kept.month, kept.month_tokens, kept.running, kept.window) == ("2031-05", 70, 0, [])
    assert meters[old.id].running == 2


async def test_what_was_used_before_a_limit_follows_the_key(desk: Desk) -> None:
    """The meter of a key begins with its first request after it was limited; a rotation may come before that."""
    old, _ = await desk.create()
    async with desk.database.main.writing(EVERY_TENANT) as session:
        session.add(
            Limit(tenant_id=desk.tenant.id, subject="key", subject_id=old.id, tokens_per_month=90)
        )
        session.add(
            UsageRollup(
                unit="d",
                tenant_id=desk.tenant.id,
                start=NOON.replace(hour=0),
                key_id=old.id,
                base_model="tiny",
                adapter="",
                version=0,
                requests=1,
                errors=0,
                prompt_tokens=50,
                cached_tokens=0,
                output_tokens=20,
                cost_nanos=700,
            )
        )
    new, _ = await desk.rotate(old.id, HOUR)
    last, _ = await desk.rotate(new.id, HOUR)
    async with desk.database.main.reading(desk.tenant.id) as session:
        meters = {row.subject_id: row for row in await session.scalars(select(Meter))}
    for identifier in (old.id, new.id, last.id):
        meter = meters[identifier]
        used = (meter.month, meter.month_tokens, meter.month_cost_nanos)
        assert used == ("2031-05", 70, 700), identifier


async def test_webhooks_hear_of_keys_and_never_a_secret(desk: Desk) -> None:
    async with desk.database.main.writing(desk.tenant.id) as session:
        session.add(
            Webhook(
                tenant_id=desk.tenant.id,
                url="https://example.com",
                secret="s",
                events=[],
                created_by="op",
            )
        )
    old, first = await desk.create()
    _, second = await desk.rotate(old.id, HOUR)
    await desk.keys.revoke(desk.actor, desk.tenant.id, old.id)
    async with desk.database.main.reading(desk.tenant.id) as session:
        told = (await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))).all()
    assert [row.event for row in told] == ["key.created", "key.rotated", "key.revoked"]
    for token in (first, second):
        assert all(token.split("_")[3].encode() not in row.body for row in told)
