"""Owns deliveries in the database: whose turn it is, who holds one, how it ended, and when a webhook is given up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, contains_eager

from loraplex.platform.db.audit import SYSTEM, record
from loraplex.platform.db.database import Store
from loraplex.platform.db.models import Webhook, WebhookDelivery
from loraplex.platform.db.scope import EVERY_TENANT

# After attempt n the next one waits 15 s * 4^(n-1), a fifth more or less: 15 s, 1 min, 4 min, 16 min, 1 h, 4.3 h, 17 h.
# Eight attempts end after 23 hours: a receiver that is mended by the next morning misses nothing.
ATTEMPTS = 8
_FIRST_PAUSE = timedelta(seconds=15)
_GROWTH = 4
_JITTER = 0.2
# An attempt takes 10 s at most; who has not written down its end after this time is dead.
LEASE = timedelta(seconds=60)
# A webhook whose deliveries have failed for good for this long, none between them getting through, is given up.
GIVEN_UP_AFTER = timedelta(days=3)
KEPT_FOR = timedelta(days=30)  # deliveries that have ended
# Of one webhook. A receiver that is away for a day misses none of seven events a minute; each takes half a kilobyte.
MOST_PENDING = 10_000
DROPPED = "Too many newer deliveries waited."
DISABLED = "The webhook was disabled."
_GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the status of the answer, or the error that came in its place."""

    status: int | None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300


class Deliveries:
    """The deliveries of all tenants.

    Args:
        random: even between 0 and 1.
    """

    def __init__(
        self, store: Store, clock: Callable[[], datetime], random: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random

    async def claim(self, most: int) -> Sequence[WebhookDelivery]:
        """Deliveries that are due, with their webhooks, held for `LEASE` and counted as attempted; of each webhook the
        oldest, and none while another of it is held; of too many webhooks any. Claims at once get different ones."""
        now = self._clock()
        async with self._store.reading(EVERY_TENANT) as session:
            # Nearly always there is nothing, and looking takes no lock.
            if not await session.scalar(select(_first_due(now).exists())):
                return []
        chosen = (
            select(WebhookDelivery)
            .join(WebhookDelivery.webhook)
            .options(contains_eager(WebhookDelivery.webhook))
            # The conditions again: a row that another worker had locked was maybe claimed in the meantime.
            .where(WebhookDelivery.id.in_(_first_due(now)), *_due(now))
            # By lot: in the order of time, receivers that hang with a backlog would have every slot each time.
            .order_by(func.random())
            .limit(most)
            .with_for_update(skip_locked=True, of=WebhookDelivery)
        )
        async with self._store.writing(EVERY_TENANT) as session:
            rows = (await session.scalars(chosen)).all()
            for row in rows:
                row.locked_until = now + LEASE
                row.attempts += 1
        return rows

    async def settle(self, held: WebhookDelivery, outcome: Outcome) -> None:
        """Write down how an attempt ended; without effect for who held it too long and lost it to another."""
        now = self._clock()
        ended = outcome.delivered or held.attempts >= ATTEMPTS or outcome.status == _GONE
        state = "delivered" if outcome.delivered else "failed" if ended else "pending"
        settled = (
            update(WebhookDelivery)
            .where(
                WebhookDelivery.id == held.id,
                WebhookDelivery.state == "pending",
                WebhookDelivery.locked_until == held.locked_until,
            )
            .values(
                state=state,
                locked_until=None,
                next_at=now if ended else now + self._pause(held.attempts),
                ended_at=now if ended else None,
                last_status=outcome.status,
                last_error=outcome.error,
            )
            .returning(WebhookDelivery.id)
        )
        async with self._store.writing(EVERY_TENANT) as session:
            # Webhook first, then deliveries: as whoever disables one locks them.
            hook = await find_locked(session, held.webhook_id) if state == "failed" else None
            if await session.scalar(settled) is not None and hook is not None:
                await self._give_up(session, hook, now, gone=outcome.status == _GONE)

    async def drop_surplus(self, most: int = MOST_PENDING) -> int:
        """Give up the oldest of what waits where more than `most` deliveries of a webhook do; how many. The audit trail
        says so, and each can be sent again by hand."""
        async with self._store.reading(EVERY_TENANT) as session:
            crowded = (
                select(WebhookDelivery.webhook_id)
                .where(WebhookDelivery.state == "pending")
                .group_by(WebhookDelivery.webhook_id)
                .having(func.count() > most)
            )
            hooks = (await session.scalars(crowded)).all()
        return sum([await self._drop(webhook_id, most) for webhook_id in hooks])

    async def _drop(self, webhook_id: UUID, most: int) -> int:
        now = self._clock()
        waiting = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state == "pending")
        surplus = select(WebhookDelivery.id).where(*waiting).order_by(WebhookDelivery.id.desc())
        free = or_(WebhookDelivery.locked_until.is_(None), WebhookDelivery.locked_until <= now)
        drop = (
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_(surplus.offset(most)), *waiting, free)
            .values(state="failed", ended_at=now, next_at=now, last_error=DROPPED)
            .returning(WebhookDelivery.id)
            .execution_options(synchronize_session=False)
        )
        async with self._store.writing(EVERY_TENANT) as session:
            # Webhook first, then deliveries: as whoever disables one locks them.
            hook = await find_locked(session, webhook_id)
            if hook is None:
                return 0
            dropped = len((await session.scalars(drop)).all())
            if dropped:
                target, tenant = str(webhook_id), hook.tenant_id
                record(session, SYSTEM, "webhook.drop", target, tenant, deliveries=dropped)
        return dropped

    async def forget_old(self) -> None:
        """Delete deliveries that ended long ago."""
        old = WebhookDelivery.next_at < self._clock() - KEPT_FOR
        ended = WebhookDelivery.state.in_(("delivered", "failed"))
        async with self._store.writing(EVERY_TENANT) as session:
            await session.execute(delete(WebhookDelivery).where(ended, old))

    def _pause(self, attempts: int) -> timedelta:
        jitter = 1 + _JITTER * (2 * self._random() - 1)
        return _FIRST_PAUSE * (math.pow(_GROWTH, attempts - 1) * jitter)

    async def _give_up(
        self, session: AsyncSession, hook: Webhook, now: datetime, *, gone: bool
    ) -> None:
        if hook.disabled_at is not None:
            return
        since = await _failing_since(session, hook.id)
        if not gone and (since is None or now - since < GIVEN_UP_AFTER):
            return
        await disable(session, hook, now)
        record(
            session,
            SYSTEM,
            "webhook.disable",
            str(hook.id),
            hook.tenant_id,
            before={"enabled": True},
            after={"enabled": False},
            reason="the receiver answered 410" if gone else "nothing got through for days",
        )


async def find_locked(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    """A webhook, locked for a change; new events for it are written down meanwhile."""
    return await session.get(Webhook, webhook_id, with_for_update={"key_share": True})


async def disable(session: AsyncSession, hook: Webhook, now: datetime) -> None:
    """Send nothing more to a webhook: what is still on its way fails, and can be sent again by hand later."""
    hook.disabled_at = now
    await session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.webhook_id == hook.id, WebhookDelivery.state == "pending")
        .values(state="failed", ended_at=now, next_at=now, locked_until=None, last_error=DISABLED)
    )


async def _failing_since(session: AsyncSession, webhook_id: UUID) -> datetime | None:
    """When the first delivery failed of those after the last one that got through."""
    of_hook = select(WebhookDelivery.ended_at).where(WebhookDelivery.webhook_id == webhook_id)
    ended = WebhookDelivery.ended_at
    last = await session.scalar(
        of_hook.where(WebhookDelivery.state == "delivered").order_by(ended.desc()).limit(1)
    )
    failed = of_hook.where(WebhookDelivery.state == "failed").order_by(ended).limit(1)
    first: datetime | None = await session.scalar(
        failed if last is None else failed.where(ended > last)
    )
    return first


def _first_due(now: datetime) -> Select[tuple[UUID]]:
    """Of each enabled webhook of which none is held, the oldest delivery that is due."""
    other = aliased(WebhookDelivery)
    # One list for all: asked for each delivery, a backlog would cost the square of its length.
    held = select(other.webhook_id).where(other.state == "pending", other.locked_until > now)
    turn = func.row_number().over(
        partition_by=WebhookDelivery.webhook_id, order_by=WebhookDelivery.id
    )
    due = (
        select(WebhookDelivery.id, turn.label("turn"))
        .join(WebhookDelivery.webhook)
        .where(Webhook.disabled_at.is_(None), *_due(now), WebhookDelivery.webhook_id.not_in(held))
        .subquery()
    )
    return select(due.c.id).where(due.c.turn == 1)


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookDelivery.state == "pending",
        WebhookDelivery.next_at <= now,
        or_(WebhookDelivery.locked_until.is_(None), WebhookDelivery.locked_until <= now),
    )
