"""Owns what every request must know of its tenant: its share of an engine, remembered for a few seconds."""

import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant

# A change reaches processes that did not make it within this time. One question per tenant and period, not per request.
REMEMBER_SECONDS = 5.0


class Entitlement(NamedTuple):
    """What a tenant may have of an engine; the fields are those of `db.models.Tenant`."""

    weight: float
    max_running: int | None


class Shares:
    """Entitlements by tenant. As many are kept as there are tenants."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[UUID, tuple[float, Entitlement]] = {}

    async def of(self, tenant_id: UUID) -> Entitlement:
        """What a tenant may have now."""
        known = self._known.get(tenant_id)
        now = self._clock()
        if known is not None and known[0] > now:
            return known[1]
        query = select(Tenant.weight, Tenant.max_running).where(Tenant.id == tenant_id)
        async with self._database.main.reading(tenant_id) as session:
            row = (await session.execute(query)).one_or_none()
        # A tenant that was deleted a moment ago: its key will not be valid for long.
        entitlement = Entitlement(1.0, None) if row is None else Entitlement(*row)
        self._known[tenant_id] = (now + REMEMBER_SECONDS, entitlement)
        return entitlement

    def forget(self, tenant_id: UUID) -> None:
        """Ask again; called when the tenant is changed in this process."""
        self._known.pop(tenant_id, None)
