"""Owns what tenants do with their adapters once these are in the catalog: look, name, move aliases, change. How they
get in is in `intake`, how they go in `removal`."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog import resolve as resolving
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.resolve import ModelEntry, ResolvedModel
from loraplex.platform.catalog.rows import find_adapter, find_aliases, find_version
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Tenant
from loraplex.platform.errors import ModelNotFoundError, NotFoundError, PermissionDeniedError
from loraplex.platform.residency.pins import Pins


class CatalogService:
    """The adapters of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, bases: BaseModels, pins: Pins) -> None:
        self._database = database
        self._bases = bases
        self._pins = pins

    async def resolve(self, tenant_id: UUID | None, model: str) -> ResolvedModel:
        """What the `model` of a request means: `BASE`, `ADAPTER`, `ADAPTER@ALIAS` or `ADAPTER@N`.

        Raises:
            ModelNotFoundError: nothing, or nothing this tenant may see.
            NotFoundError: an adapter of this tenant whose base model is not served here.
        """
        if tenant_id is None:
            raise ModelNotFoundError(model)
        return await resolving.resolve(self._database, self._bases, tenant_id, model)

    async def list_models(self, tenant_id: UUID | None) -> list[ModelEntry]:
        """Every model the tenant may name in a request, base models first."""
        if tenant_id is None:
            return []
        async with self._database.main.reading(tenant_id) as session:
            tenant = await session.get_one(Tenant, tenant_id)
        return await resolving.list_models(self._database, self._bases, tenant_id, tenant.name)

    async def list_adapters(
        self, tenant_id: UUID, after: str, limit: int
    ) -> list[tuple[Adapter, list[AdapterAlias]]]:
        """Adapters by name with their aliases, those after `after`."""
        query = (
            select(Adapter)
            .where(Adapter.tenant_id == tenant_id, Adapter.name > after)
            .order_by(Adapter.name)
            .limit(limit)
        )
        async with self._database.main.reading(tenant_id) as session:
            adapters = (await session.scalars(query)).all()
            aliases = await find_aliases(session, [adapter.id for adapter in adapters])
        return [
            (adapter, [alias for alias in aliases if alias.adapter_id == adapter.id])
            for adapter in adapters
        ]

    async def get_adapter(
        self, tenant_id: UUID, name: str
    ) -> tuple[Adapter, Sequence[AdapterVersion], Sequence[AdapterAlias]]:
        """An adapter, its versions newest first, and its aliases.

        Raises:
            NotFoundError: the tenant has no such adapter.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, tenant_id, name)
            query = (
                select(AdapterVersion)
                .where(AdapterVersion.adapter_id == adapter.id)
                .order_by(AdapterVersion.n.desc())
                .options(joinedload(AdapterVersion.blob))
            )
            versions = (await session.scalars(query)).all()
            return adapter, versions, await find_aliases(session, [adapter.id])

    async def get_version(
        self, tenant_id: UUID, name: str, n: int
    ) -> tuple[AdapterVersion, list[str]]:
        """One version and the aliases that name it.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, tenant_id, name)
            version = await find_version(session, adapter, n)
            aliases = await find_aliases(session, [adapter.id])
        return version, [alias.alias for alias in aliases if alias.version_id == version.id]

    async def set_alias(
        self, actor: Principal, tenant_id: UUID, name: str, alias: str, version: int
    ) -> AdapterAlias:
        """Let an alias name a version, from the next request on.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, tenant_id, name, lock=True)
            target = await find_version(session, adapter, version)
            await point_alias(session, actor, adapter, alias, target)
            await session.flush()
            adapter_id = adapter.id
            session.expunge_all()  # so that the alias is read anew, with what it names now
            return next(a for a in await find_aliases(session, [adapter_id]) if a.alias == alias)

    async def delete_alias(self, actor: Principal, tenant_id: UUID, name: str, alias: str) -> None:
        """Remove an alias; its version stays.

        Raises:
            NotFoundError: the tenant has no such adapter or alias.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, tenant_id, name, lock=True)
            row = await session.get(AdapterAlias, (adapter.id, alias))
            if row is None:
                raise NotFoundError(f"{name} has no alias {alias[:63]!r}.")
            await session.delete(row)
            record(session, actor, "alias.delete", f"{name}@{alias}", tenant_id)

    async def change_adapter(
        self,
        actor: Principal,
        tenant_id: UUID,
        name: str,
        pinned: bool | UnsetType = UNSET,
        max_running: int | UnsetType | None = UNSET,
    ) -> None:
        """Pin or unpin an adapter, or limit how many of its requests run at once.

        Raises:
            NotFoundError: the tenant has no such adapter.
            PermissionDeniedError: only operators pin: it takes memory from all tenants.
        """
        if pinned is not UNSET and not actor.is_operator:
            raise PermissionDeniedError(
                "pinned: only an operator pins adapters; ask yours, or leave the field out."
            )
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, tenant_id, name, lock=True)
            if pinned is not UNSET:
                adapter.pinned = pinned
            if max_running is not UNSET:
                adapter.max_running = max_running
            record(
                session,
                actor,
                "adapter.change",
                name,
                tenant_id,
                pinned=adapter.pinned,
                max_running=adapter.max_running,
            )
        if pinned is not UNSET:
            await self._pins.sync()


async def point_alias(
    session: AsyncSession, actor: Principal, adapter: Adapter, alias: str, target: AdapterVersion
) -> None:
    """Within a transaction that holds the adapter's row: make or move an alias, remembering what it named before."""
    row = await session.get(AdapterAlias, (adapter.id, alias))
    before: UUID | None = None
    if row is None:
        row = AdapterAlias(tenant_id=adapter.tenant_id, adapter_id=adapter.id, alias=alias)
        session.add(row)
    elif row.version_id == target.id:
        return
    else:
        before = row.previous_id = row.version_id
    row.version_id = target.id
    row.updated_by = actor.actor_id
    record(
        session,
        actor,
        "alias.set",
        f"{adapter.name}@{alias}",
        adapter.tenant_id,
        version=target.n,
        replaced=None if before is None else str(before),
    )
