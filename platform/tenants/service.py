"""Owns tenants in the database."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError
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

    async def change(
        self,
        actor: Principal,
        name: str,
        weight: float | UnsetType = UNSET,
        max_running: int | UnsetType | None = UNSET,
    ) -> Tenant:
        """Give a tenant another share or limit: from the next request on here, within seconds in other processes.

        Raises:
            NotFoundError: there is none of this name.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            query = select(Tenant).where(Tenant.name == name).with_for_update()
            tenant = await session.scalar(query)
            if tenant is None:
                raise _unknown(name)
            if weight is not UNSET:
                tenant.weight = weight
            if max_running is not UNSET:
                tenant.max_running = max_running
            record(
                session,
                actor,
                "tenant.change",
                name,
                tenant.id,
                weight=tenant.weight,
                max_running=tenant.max_running,
            )
        self._shares.forget(tenant.id)
        return tenant


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"There is no tenant {name[:63]!r}.")
