"""Owns telling tenants' names by the rows that are theirs."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.base import TenantOwned
from loraplex.platform.db.models import Tenant


async def tenant_names(
    session: AsyncSession, rows: Iterable[TenantOwned]
) -> dict[UUID | None, str]:
    """Names by id, of those tenants that are still there."""
    ids = {row.tenant_id for row in rows}
    query = select(Tenant.id, Tenant.name).where(Tenant.id.in_(ids))
    return {row.id: row.name for row in await session.execute(query)}
