"""Owns what tenants do with their adapters once these are in the catalog: look, name, move aliases,
delete. How they get in is in `intake`."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog import resolve as resolving
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.resolve import ModelEntry, ResolvedModel
from loraplex.platform.catalog.schemas import MAX_VERSION
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Tenant
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.errors import ConflictError, ModelNotFoundError, NotFoundError


class CatalogService:
    """The adapters of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(
        self, database: Database, bases: BaseModels, weights: Weights, engines: EngineDirectory
    ) -> None:
        self._database = database
        self._bases = bases
        self._weights = weights
        self._engines = engines

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
        async with self._database.main.reading() as session:
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
        async with self._database.main.reading() as session:
            adapters = (await session.scalars(query)).all()
            aliases = await _aliases(session, [adapter.id for adapter in adapters])
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
        async with self._database.main.reading() as session:
            adapter = await _adapter(session, tenant_id, name)
            query = (
                select(AdapterVersion)
                .where(AdapterVersion.adapter_id == adapter.id)
                .order_by(AdapterVersion.n.desc())
                .options(joinedload(AdapterVersion.blob))
            )
            versions = (await session.scalars(query)).all()
            return adapter, versions, await _aliases(session, [adapter.id])

    async def get_version(
        self, tenant_id: UUID, name: str, n: int
    ) -> tuple[AdapterVersion, list[str]]:
        """One version and the aliases that name it.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.reading() as session:
            adapter = await _adapter(session, tenant_id, name)
            version = await _version(session, adapter, n)
            aliases = await _aliases(session, [adapter.id])
        return version, [alias.alias for alias in aliases if alias.version_id == version.id]

    async def set_alias(
        self, actor: Principal, tenant_id: UUID, name: str, alias: str, version: int
    ) -> AdapterAlias:
        """Let an alias name a version, from the next request on.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.writing() as session:
            adapter = await _adapter(session, tenant_id, name, lock=True)
            target = await _version(session, adapter, version)
            await point_alias(session, actor, adapter, alias, target)
            await session.flush()
            adapter_id = adapter.id
            session.expunge_all()  # so that the alias is read anew, with what it names now
            return next(a for a in await _aliases(session, [adapter_id]) if a.alias == alias)

    async def delete_alias(self, actor: Principal, tenant_id: UUID, name: str, alias: str) -> None:
        """Remove an alias; its version stays.

        Raises:
            NotFoundError: the tenant has no such adapter or alias.
        """
        async with self._database.main.writing() as session:
            adapter = await _adapter(session, tenant_id, name, lock=True)
            row = await session.get(AdapterAlias, (adapter.id, alias))
            if row is None:
                raise NotFoundError(f"{name} has no alias {alias[:63]!r}.")
            await session.delete(row)
            record(session, actor, "alias.delete", f"{name}@{alias}", tenant_id)

    async def delete_version(
        self, actor: Principal, tenant_id: UUID, name: str, version: int
    ) -> None:
        """Remove a version from the database and from every engine.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
            ConflictError: an alias names it.
        """
        async with self._database.main.writing() as session:
            adapter = await _adapter(session, tenant_id, name, lock=True)
            target = await _version(session, adapter, version)
            query = select(AdapterAlias.alias).where(AdapterAlias.version_id == target.id)
            if alias := await session.scalar(query.limit(1)):
                raise ConflictError(
                    f"The alias {alias!r} names {name}@{version}; move or delete the alias first."
                )
            await session.delete(target)
            await session.flush()
            blobs = await self._weights.release(session, {target.blob_id})
            purges = await _purges(session, tenant_id, [target])
            record(session, actor, "version.delete", f"{name}@{version}", tenant_id)
        await self._clean(blobs, purges)

    async def delete_adapter(self, actor: Principal, tenant_id: UUID, name: str) -> None:
        """Remove an adapter with its versions and aliases, here and in every engine.

        Raises:
            NotFoundError: the tenant has no such adapter.
        """
        async with self._database.main.writing() as session:
            adapter = await _adapter(session, tenant_id, name, lock=True)
            query = select(AdapterVersion).where(AdapterVersion.adapter_id == adapter.id)
            versions = (await session.scalars(query)).all()
            await session.execute(delete(Adapter).where(Adapter.id == adapter.id))
            blobs = await self._weights.release(session, {v.blob_id for v in versions})
            purges = await _purges(session, tenant_id, versions)
            record(session, actor, "adapter.delete", name, tenant_id, versions=len(versions))
        await self._clean(blobs, purges)

    async def _clean(self, blobs: list[UUID], purges: set[tuple[str, str]]) -> None:
        # Engines first: what stays behind after a crash here is garbage that the sweep finds.
        for base, name in purges:
            await self._engines.purge(base, name)
        for blob_id in blobs:
            await self._weights.chunks.delete(blob_id)


async def point_alias(
    session: AsyncSession, actor: Principal, adapter: Adapter, alias: str, target: AdapterVersion
) -> None:
    """Within a transaction that holds the adapter's row: make or move an alias, remembering what it named before."""
    row = await session.get(AdapterAlias, (adapter.id, alias))
    before: UUID | None = None
    if row is None:
        row = AdapterAlias(adapter_id=adapter.id, alias=alias)
        session.add(row)
    elif row.version_id == target.id:
        return
    else:
        before = row.previous_id = row.version_id
    row.version_id = target.id
    row.updated_by = actor.key_id
    record(
        session,
        actor,
        "alias.set",
        f"{adapter.name}@{alias}",
        adapter.tenant_id,
        version=target.n,
        replaced=None if before is None else str(before),
    )


async def _adapter(
    session: AsyncSession, tenant_id: UUID, name: str, *, lock: bool = False
) -> Adapter:
    query = select(Adapter).where(Adapter.tenant_id == tenant_id, Adapter.name == name)
    adapter = await session.scalar(query.with_for_update() if lock else query)
    if adapter is None:
        raise NotFoundError(f"There is no adapter {name[:63]!r}.")
    return adapter


async def _version(session: AsyncSession, adapter: Adapter, n: int) -> AdapterVersion:
    query = (
        select(AdapterVersion)
        .where(AdapterVersion.adapter_id == adapter.id, AdapterVersion.n == n)
        .options(joinedload(AdapterVersion.blob))
    )
    # Larger numbers do not fit the column, and would fail instead of finding nothing.
    version = await session.scalar(query) if 1 <= n <= MAX_VERSION else None
    if version is None:
        raise NotFoundError(f"{adapter.name} has no version {n}.")
    return version


async def _aliases(session: AsyncSession, adapter_ids: list[UUID]) -> Sequence[AdapterAlias]:
    query = (
        select(AdapterAlias)
        .where(AdapterAlias.adapter_id.in_(adapter_ids))
        .order_by(AdapterAlias.alias)
        .options(joinedload(AdapterAlias.version), joinedload(AdapterAlias.previous))
    )
    return (await session.scalars(query)).all()


async def _purges(
    session: AsyncSession, tenant_id: UUID, deleted: Sequence[AdapterVersion]
) -> set[tuple[str, str]]:
    """(base, identity) of deleted versions, less those another version of the tenant still has."""
    gone = set()
    for version in deleted:
        same = exists().where(
            AdapterVersion.adapter_id == Adapter.id,
            Adapter.tenant_id == tenant_id,
            AdapterVersion.base_model == version.base_model,
            AdapterVersion.digest == version.digest,
        )
        if not await session.scalar(select(same)):
            gone.add((version.base_model, resolving.identity(tenant_id, version.digest)))
    return gone
