"""Owns reading the ledger."""

from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.ledger.schemas import RequestList, RequestOut
from loraplex.platform.residency.names import Names


class Ledger:
    """Rows of one tenant, or of all for operators. Pages by key: the millionth row costs what the first does."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database = database
        self._names = names

    async def page(
        self,
        viewer: UUID | None,
        tenant_id: UUID | None,
        *,
        adapter: str | None,
        answer_id: str | None,
        before: UUID | None,
        limit: int,
    ) -> RequestList:
        """The newest `limit` rows older than `before`.

        Args:
            viewer: the tenant that asks, None for an operator.
            tenant_id: whose rows; None for everybody's.
        """
        query = select(LedgerEntry).order_by(LedgerEntry.id.desc()).limit(limit)
        if tenant_id is not None:
            query = query.where(LedgerEntry.tenant_id == tenant_id)
        if adapter is not None:
            query = query.where(LedgerEntry.adapter == adapter)
        if answer_id is not None:
            query = query.where(LedgerEntry.answer_id == answer_id)
        if before is not None:
            query = query.where(LedgerEntry.id < before)
        whose = EVERY_TENANT if tenant_id is None else tenant_id
        async with self._database.main.reading(whose) as session:
            rows = (await session.scalars(query)).all()
            owners = select(Tenant.id, Tenant.name).where(
                Tenant.id.in_({row.tenant_id for row in rows})
            )
            tenants = {row.id: row.name for row in await session.execute(owners)}
        names = await self._names.of(row.evicted_by for row in rows if row.evicted_by is not None)
        return RequestList(
            [RequestOut.of(row, tenants.get(row.tenant_id, ""), viewer, names) for row in rows],
            str(rows[-1].id) if len(rows) == limit else None,
        )
