"""Owns limits in the database: who has which, and how near each is."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.key_service import find_key
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.rows import find_adapter
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Limit, Meter, Tenant
from loraplex.platform.errors import NotFoundError
from loraplex.platform.limits.money import amount
from loraplex.platform.metering.limits import ADAPTER, KEY, TENANT, Limits, Subject
from loraplex.platform.metering.meter import MeterState
from loraplex.platform.webhooks.events import Event, emit

T = TypeVar("T", Limit, Meter)


class Limited(NamedTuple):
    """Whose limits are meant. `kind` is that of `metering.limits.Subject`; `name` what the tenant calls it: its own
    name, the id of a key, the name of an adapter."""

    tenant_id: UUID
    kind: str
    name: str


class LimitService:
    """Limits of tenants, keys and adapters."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def get(
        self, actor: Principal, limited: Limited
    ) -> tuple[Limit | None, MeterState | None]:
        """The limits, and where they stand as soon as a request was counted.

        Raises:
            NotFoundError: the tenant has no such key or adapter.
        """
        async with self._database.main.reading(limited.tenant_id) as session:
            subject = await _find(session, actor, limited)
            limit = await session.scalar(_of(Limit, subject))
            return limit, await self._meter(session, limited, subject)

    async def put(
        self, actor: Principal, limited: Limited, limits: Limits
    ) -> tuple[Limit, MeterState | None]:
        """Replace all limits: for the next request, within seconds. Returns what `get` does.

        Raises:
            NotFoundError: the tenant has no such key or adapter.
        """
        async with self._database.main.writing(limited.tenant_id) as session:
            subject = await _find(session, actor, limited, lock=True)
            row = await session.scalar(_of(Limit, subject))
            before = None if row is None else _told(row)
            if row is None:
                row = Limit(
                    tenant_id=limited.tenant_id, subject=subject.kind, subject_id=subject.id
                )
                session.add(row)
            for field, value in asdict(limits).items():
                setattr(row, field, value)
            after = _told(row)
            if after != before:
                await _tell(session, actor, limited, before, after)
            return row, await self._meter(session, limited, subject)

    async def clear(self, actor: Principal, limited: Limited) -> None:
        """Remove all limits. Nothing happens where there are none.

        Raises:
            NotFoundError: the tenant has no such key or adapter.
        """
        async with self._database.main.writing(limited.tenant_id) as session:
            subject = await _find(session, actor, limited, lock=True)
            row = await session.scalar(_of(Limit, subject))
            if row is not None:
                await session.delete(row)
                # Without limits nothing is counted; should there be some again, the meter begins with what was used.
                meter = await session.scalar(_of(Meter, subject).with_for_update())
                if meter is not None:
                    await session.delete(meter)
                await _tell(session, actor, limited, _told(row), None)

    async def _meter(
        self, session: AsyncSession, limited: Limited, subject: Subject
    ) -> MeterState | None:
        row = await session.scalar(_of(Meter, subject))
        if row is None:
            return None
        meter = MeterState(
            subject,
            limited.tenant_id,
            row.running,
            row.window,
            row.month,
            row.month_tokens,
            row.month_cost_nanos,
        )
        meter.advance(self._now())
        return meter


async def _find(
    session: AsyncSession, actor: Principal, limited: Limited, *, lock: bool = False
) -> Subject:
    """Whose limits are meant, by id. Its row is held until the transaction ends if `lock`: two who set the same limits
    come one after the other, also where there are none yet."""
    tenant_id, kind, name = limited
    if kind == KEY:
        return Subject(KEY, (await find_key(session, tenant_id, name, lock=lock)).id)
    if kind == ADAPTER:
        return Subject(
            ADAPTER, str((await find_adapter(session, actor, tenant_id, name, lock=lock)).id)
        )
    query = select(Tenant.id).where(Tenant.id == tenant_id)
    # Not held against rows that refer to it, which every push and every request adds.
    found = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if found is None:
        raise NotFoundError(f"There is no tenant {name[:63]!r}.")
    return Subject(TENANT, str(tenant_id))


def _of(table: type[T], subject: Subject) -> Select[T]:
    return select(table).where(table.subject == subject.kind, table.subject_id == subject.id)


async def _tell(
    session: AsyncSession,
    actor: Principal,
    limited: Limited,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> None:
    tenant_id, kind, name = limited
    action = "limit.clear" if after is None else "limit.set"
    record(session, actor, action, name, tenant_id, before=before, after=after, subject=kind)
    told = {"subject": kind, "name": name, "before": before, "after": after}
    await emit(session, tenant_id, Event.LIMIT_CHANGED, told)


def _told(row: Limit) -> dict[str, object]:
    cost = row.cost_per_month_nanos
    return {
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
        "max_concurrent": row.max_concurrent,
        "tokens_per_month": row.tokens_per_month,
        "cost_per_month": None if cost is None else amount(cost),
    }
