"""Owns what tenants do with their adapters once these are in the catalog: look and change. How they get in is in
`intake`, how they go in `removal`, their aliases are in `aliases`."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.listing import ModelEntry, list_models
from loraplex.platform.catalog.resolve import ResolvedModel, Resolver
from loraplex.platform.catalog.rows import find_adapter, find_aliases, find_golden, find_version
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, GoldenPrompt
from loraplex.platform.errors import PermissionDeniedError
from loraplex.platform.residency.pins import Pins


class CatalogService:
    """The adapters of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(
        self, database: Database, bases: BaseModels, pins: Pins, epochs: Epochs, resolver: Resolver
    ) -> None:
        self._database = database
        self._bases = bases
        self._pins = pins
        self._epochs = epochs
        self._resolver = resolver

    async def resolve(
        self, viewer: Principal, model: str, sticky: str | None = None
    ) -> ResolvedModel:
        """What the `model` of a request means: `BASE`, `ADAPTER`, `ADAPTER@ALIAS` or `ADAPTER@N`. `sticky` is who asks:
        of an alias that is split the same one gets the same version.

        Raises:
            ModelNotFoundError: nothing, or nothing this key may see.
            NotFoundError: an adapter of this tenant whose base model is not served here.
        """
        return await self._resolver.resolve(viewer, model, sticky)

    async def list_models(self, viewer: Principal) -> list[ModelEntry]:
        """Every model the key may name in a request, base models first."""
        return await list_models(self._database, self._bases, viewer)

    async def get_adapter(
        self, viewer: Principal, tenant_id: UUID, name: str
    ) -> tuple[Adapter, Sequence[AdapterVersion], Sequence[AdapterAlias]]:
        """An adapter, its versions newest first, and its aliases.

        Raises:
            NotFoundError: the tenant has no such adapter.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, viewer, tenant_id, name)
            query = (
                select(AdapterVersion)
                .where(AdapterVersion.adapter_id == adapter.id)
                .order_by(AdapterVersion.n.desc())
                .options(joinedload(AdapterVersion.blob))
            )
            versions = (await session.scalars(query)).all()
            return adapter, versions, await find_aliases(session, [adapter.id])

    async def get_version(
        self, viewer: Principal, tenant_id: UUID, name: str, n: int
    ) -> tuple[AdapterVersion, Sequence[AdapterAlias], Sequence[GoldenPrompt]]:
        """One version, the aliases of its adapter, and its golden prompts.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, viewer, tenant_id, name)
            version = await find_version(session, adapter, n)
            aliases = await find_aliases(session, [adapter.id])
            return version, aliases, await find_golden(session, version.id)

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
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            before = _settings(adapter)
            if pinned is not UNSET:
                adapter.pinned = pinned
            if max_running is not UNSET:
                adapter.max_running = max_running
            after = _settings(adapter)
            if after != before:
                record(
                    session, actor, "adapter.change", name, tenant_id, before=before, after=after
                )
        self._epochs.change(tenant_id)
        if pinned is not UNSET:
            await self._pins.sync()


def _settings(adapter: Adapter) -> dict[str, object]:
    return {"pinned": adapter.pinned, "max_running": adapter.max_running}
