"""Owns reading the audit trail."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select

from loraplex.platform.audit.schemas import AuditList, AuditOut
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import AuditEntry
from loraplex.platform.db.scope import whose
from loraplex.platform.tenants.names import tenant_names

_SLACK = (
    60_000  # milliseconds between an entry's id and its time, which are taken one after the other
)
EXPORT_PAGE = 1000  # rows read in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries: of whom (None: everybody's), by whom, and when. `action` is the beginning of one."""

    tenant_id: UUID | None
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None

    def query(self) -> Select[AuditEntry]:
        """Newest first. Pages by key: the millionth entry costs what the first does."""
        query = select(AuditEntry).order_by(AuditEntry.id.desc())
        if self.tenant_id is not None:
            query = query.where(AuditEntry.tenant_id == self.tenant_id)
        if self.actor is not None:
            query = query.where(AuditEntry.actor == self.actor)
        if self.action is not None:
            query = query.where(AuditEntry.action.startswith(self.action, autoescape=True))
        if self.target is not None:
            query = query.where(AuditEntry.target == self.target)
        if self.since is not None:
            first = _id_at(self.since, -_SLACK)
            query = query.where(AuditEntry.created_at >= self.since, AuditEntry.id >= first)
        if self.until is not None:
            last = _id_at(self.until, _SLACK)
            query = query.where(AuditEntry.created_at < self.until, AuditEntry.id <= last)
        if self.before is not None:
            query = query.where(AuditEntry.id < self.before)
        return query


def _id_at(moment: datetime, slack: int) -> UUID:
    """The smallest id of that time: ids begin with their milliseconds, and only ids have an index."""
    return UUID(int=max(0, int(moment.timestamp() * 1000) + slack) << 80)


class AuditTrail:
    """Entries of one tenant, or of all for operators."""

    def __init__(self, database: Database) -> None:
        self._store = database.main

    async def page(self, wanted: Wanted, viewer: UUID | None, limit: int) -> AuditList:
        """The newest `limit` entries.

        Args:
            viewer: the tenant that asks, None for an operator.
        """
        async with self._store.reading(whose(wanted.tenant_id)) as session:
            rows = (await session.scalars(wanted.query().limit(limit))).all()
            names = await tenant_names(session, rows)
        return AuditList(
            [AuditOut.of(row, names.get(row.tenant_id, ""), viewer) for row in rows],
            str(rows[-1].id) if len(rows) == limit else None,
        )

    async def all(self, wanted: Wanted, viewer: UUID | None) -> AsyncGenerator[list[AuditOut]]:
        """Every entry, in pages, each read in a transaction of its own: a slow reader holds none open."""
        while True:
            page = await self.page(wanted, viewer, EXPORT_PAGE)
            yield page.data
            if page.next is None:
                return
            wanted = replace(wanted, before=UUID(page.next))
