"""Owns tenants in the database. How they go is in `removal`."""

from collections.abc import Sequence

from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError
from loraplex.platform.tenants.schemas import TenantChange
from loraplex.platform.tenants.shares import Shares


class TenantService:
    """What operators do with tenants."""

    def __init__(self, database: Database, shares: Shares) -> None:
        self._database = database
        self._shares = shares

    async def create(self, actor: Principal, name: str) -> Tenant:
        """A new tenant.

        Raises:
            ConflictError: the name is taken.
        """
        tenant = Tenant(name=name)
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                session.add(tenant)
                await session.flush()
                record(session, actor, "tenant.create", name, tenant.id)
        except IntegrityError as error:
            raise ConflictError(
                f"The tenant {name!r} exists already; choose another name.", param="name"
            ) from error
        return tenant

    async def list(self, after: str, limit: int) -> Sequence[Tenant]:
        """Tenants by name, those after `after`."""
        query = select(Tenant).where(Tenant.name > after).order_by(Tenant.name).limit(limit)
        async with self._database.main.reading(EVERY_TENANT) as session:
            return (await session.scalars(query)).all()

    async def get(self, name: str) -> Tenant:
        """A tenant by name.

        Raises:
            NotFoundError: there is none.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            tenant = await session.scalar(select(Tenant).where(Tenant.name == name))
        if tenant is None:
            raise _unknown(name)
        return tenant

    async def change(self, actor: Principal, name: str, change: TenantChange) -> Tenant:
        """Change what a tenant may have: from the next request on here, within seconds in other processes.

        Raises:
            NotFoundError: there is none of this name.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            query = select(Tenant).where(Tenant.name == name).with_for_update()
            tenant = await session.scalar(query)
            if tenant is None:
                raise _unknown(name)
            before = entitlement(tenant)
            if change.weight is not UNSET:
                tenant.weight = change.weight
            if change.max_running is not UNSET:
                tenant.max_running = change.max_running
            if change.storage_limit is not UNSET:
                tenant.storage_limit = change.storage_limit
            if change.ledger_days is not UNSET:
                tenant.ledger_days = change.ledger_days
            after = entitlement(tenant)
            if after != before:
                record(session, actor, "tenant.change", name, tenant.id, before=before, after=after)
        self._shares.forget(tenant.id)
        return tenant


def entitlement(tenant: Tenant) -> dict[str, object]:
    """What a tenant may have, for the audit trail."""
    return {
        "weight": tenant.weight,
        "max_running": tenant.max_running,
        "storage_limit": tenant.storage_limit,
        "ledger_days": tenant.ledger_days,
    }


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"There is no tenant {name[:63]!r}.")
