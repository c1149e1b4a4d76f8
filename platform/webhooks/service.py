"""Owns the webhooks of a tenant: making, changing and deleting them, their secrets, and sending again by hand."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import UNSET
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant, Webhook, WebhookDelivery
from loraplex.platform.errors import BadRequestError, ConflictError, NotFoundError
from loraplex.platform.outbound import Outbound, RefusedTargetError
from loraplex.platform.webhooks.deliveries import disable, find_locked
from loraplex.platform.webhooks.events import Event, delivery, encode
from loraplex.platform.webhooks.schemas import WebhookChange, WebhookCreate
from loraplex.platform.webhooks.signing import new_secret

MOST = 10  # of one tenant: each may hold one of a worker's slots for as long as an attempt takes
OVERLAP = timedelta(hours=24)  # in which messages are signed with the secret before as well


class Webhooks:
    """Webhooks of one tenant at a time; the caller has decided that the actor may manage them."""

    def __init__(self, database: Database, outbound: Outbound) -> None:
        self._store = database.main
        self._outbound = outbound

    async def create(
        self, actor: Principal, tenant_id: UUID, wanted: WebhookCreate
    ) -> tuple[Webhook, str]:
        """A new webhook and its secret.

        Raises:
            BadRequestError: its URL may not be asked.
            ConflictError: the tenant has `MOST` already.
        """
        self._check(wanted.url)
        secret = new_secret()
        hook = Webhook(
            tenant_id=tenant_id,
            url=wanted.url,
            secret=secret,
            events=_ordered(wanted.events),
            description=wanted.description,
            created_by=actor.actor_id,
        )
        async with self._store.writing(tenant_id) as session:
            # Two at once count one after the other.
            await session.get(Tenant, tenant_id, with_for_update={"key_share": True})
            count = select(func.count()).select_from(Webhook)
            if (await session.scalar(count.where(Webhook.tenant_id == tenant_id)) or 0) >= MOST:
                raise ConflictError(
                    f"There are {MOST} webhooks already; delete one first.",
                    code="too_many_webhooks",
                )
            session.add(hook)
            await session.flush()
            record(session, actor, "webhook.create", str(hook.id), tenant_id, after=_settings(hook))
        return hook, secret

    async def list(self, tenant_id: UUID) -> Sequence[Webhook]:
        """Every webhook of a tenant, oldest first."""
        query = select(Webhook).where(Webhook.tenant_id == tenant_id).order_by(Webhook.id)
        async with self._store.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def get(self, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        """One webhook of a tenant.

        Raises:
            NotFoundError: it has no such webhook.
        """
        async with self._store.reading(tenant_id) as session:
            return await _find(session, tenant_id, webhook_id)

    async def change(
        self, actor: Principal, tenant_id: UUID, webhook_id: UUID, wanted: WebhookChange
    ) -> Webhook:
        """Change what is given. A disabled webhook is sent nothing, and what was on its way fails.

        Raises:
            BadRequestError: its new URL may not be asked.
            NotFoundError: the tenant has no such webhook.
        """
        if wanted.url is not UNSET:
            self._check(wanted.url)
        async with self._store.writing(tenant_id) as session:
            hook = await _find(session, tenant_id, webhook_id, lock=True)
            before = _settings(hook)
            if wanted.url is not UNSET:
                hook.url = wanted.url
            if wanted.events is not UNSET:
                hook.events = _ordered(wanted.events)
            if wanted.description is not UNSET:
                hook.description = wanted.description
            if wanted.enabled is True:
                hook.disabled_at = None
            elif wanted.enabled is False and hook.disabled_at is None:
                await disable(session, hook, utc_now())
            after = _settings(hook)
            if changed := {name for name in after if after[name] != before[name]}:
                record(
                    session,
                    actor,
                    "webhook.change",
                    str(hook.id),
                    tenant_id,
                    before={name: before[name] for name in changed},
                    after={name: after[name] for name in changed},
                )
        return hook

    async def delete(self, actor: Principal, tenant_id: UUID, webhook_id: UUID) -> None:
        """Remove a webhook with its deliveries.

        Raises:
            NotFoundError: the tenant has no such webhook.
        """
        async with self._store.writing(tenant_id) as session:
            hook = await _find(session, tenant_id, webhook_id, lock=True)
            await session.delete(hook)
            before = _settings(hook)
            record(session, actor, "webhook.delete", str(hook.id), tenant_id, before=before)

    async def renew_secret(
        self, actor: Principal, tenant_id: UUID, webhook_id: UUID
    ) -> tuple[Webhook, str]:
        """A new secret; the one before signs as well for `OVERLAP`.

        Raises:
            NotFoundError: the tenant has no such webhook.
        """
        async with self._store.writing(tenant_id) as session:
            hook = await _find(session, tenant_id, webhook_id, lock=True)
            hook.previous_secret, hook.secret = hook.secret, new_secret()
            hook.previous_until = utc_now() + OVERLAP
            until = hook.previous_until
            record(
                session,
                actor,
                "webhook.renew_secret",
                str(hook.id),
                tenant_id,
                previous_until=until,
            )
        return hook, hook.secret

    async def test(self, actor: Principal, tenant_id: UUID, webhook_id: UUID) -> WebhookDelivery:
        """Send a `webhook.test`, whether or not the webhook asked for such events.

        Raises:
            NotFoundError: the tenant has no such webhook.
            ConflictError: it is disabled.
        """
        async with self._store.writing(tenant_id) as session:
            hook = await _find_enabled(session, tenant_id, webhook_id)
            body = encode(Event.TEST, {"webhook": hook.id})
            sent = delivery(hook, Event.TEST, body)
            session.add(sent)
            await session.flush()
            record(session, actor, "webhook.test", str(hook.id), tenant_id, delivery=sent.id)
        return sent

    async def deliveries(
        self, tenant_id: UUID, webhook_id: UUID, before: UUID | None, limit: int
    ) -> Sequence[WebhookDelivery]:
        """The newest `limit` deliveries older than `before`.

        Raises:
            NotFoundError: the tenant has no such webhook.
        """
        query = (
            select(WebhookDelivery)
            .where(WebhookDelivery.webhook_id == webhook_id)
            .order_by(WebhookDelivery.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(WebhookDelivery.id < before)
        async with self._store.reading(tenant_id) as session:
            await _find(session, tenant_id, webhook_id)
            return (await session.scalars(query)).all()

    async def redeliver(
        self, actor: Principal, tenant_id: UUID, webhook_id: UUID, delivery_id: UUID
    ) -> WebhookDelivery:
        """Send an event again, under its own id: at once, and with as many attempts as a new one.

        Raises:
            NotFoundError: the tenant has no such webhook, or this no such delivery.
            ConflictError: the webhook is disabled.
        """
        async with self._store.writing(tenant_id) as session:
            await _find_enabled(session, tenant_id, webhook_id)
            query = select(WebhookDelivery).where(
                WebhookDelivery.id == delivery_id, WebhookDelivery.webhook_id == webhook_id
            )
            row = await session.scalar(query.with_for_update())
            if row is None:
                raise NotFoundError(f"The webhook has no delivery {str(delivery_id)!r}.")
            now = utc_now()
            if row.locked_until is None or row.locked_until <= now:
                row.state, row.attempts, row.next_at, row.ended_at = "pending", 0, now, None
            target = str(webhook_id)
            record(session, actor, "webhook.redeliver", target, tenant_id, delivery=delivery_id)
        return row

    def _check(self, url: str) -> None:
        try:
            self._outbound.check(url)
        except RefusedTargetError as error:
            raise BadRequestError(f"url: {error}", param="url", code="invalid_value") from error


def secrets_at(hook: Webhook, now: datetime) -> list[str]:
    """The secrets that sign what is sent at a moment, the present one first."""
    if hook.previous_secret and hook.previous_until is not None and now < hook.previous_until:
        return [hook.secret, hook.previous_secret]
    return [hook.secret]


def _settings(hook: Webhook) -> dict[str, object]:
    """What the audit trail keeps of a webhook."""
    return {
        "url": hook.url,
        "events": hook.events,
        "description": hook.description,
        "enabled": hook.disabled_at is None,
    }


def _ordered(events: Sequence[Event]) -> list[str]:
    return sorted({event.value for event in events})


async def _find(
    session: AsyncSession, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False
) -> Webhook:
    hook = (
        await find_locked(session, webhook_id) if lock else await session.get(Webhook, webhook_id)
    )
    if hook is None or hook.tenant_id != tenant_id:
        raise NotFoundError(f"There is no webhook {str(webhook_id)!r}.")
    return hook


async def _find_enabled(session: AsyncSession, tenant_id: UUID, webhook_id: UUID) -> Webhook:
    hook = await _find(session, tenant_id, webhook_id, lock=True)
    if hook.disabled_at is not None:
        raise ConflictError("The webhook is disabled; enable it first.")
    return hook
