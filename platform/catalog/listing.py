"""Owns what `/v1/models` lists."""

from dataclasses import dataclass

from sqlalchemy import select

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Tenant


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of `/v1/models`; `parent` is the base model of an adapter."""

    id: str
    created: int
    owned_by: str
    parent: str | None


async def list_models(database: Database, bases: BaseModels, viewer: Principal) -> list[ModelEntry]:
    """Base models, then the tenant's adapters and their aliases, of bases served here, that the key may see."""
    tenant_id = viewer.tenant_id
    if tenant_id is None:
        return []
    entries = [
        ModelEntry(base.name, base.created, "loraplex", None)
        for base in bases.all()
        if viewer.may_see(base.name)
    ]
    versions = (
        select(Adapter.name, AdapterVersion.base_model, AdapterVersion.created_at)
        .join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
        .where(Adapter.tenant_id == tenant_id, AdapterVersion.base_model.in_(bases.names))
        .order_by(Adapter.name, AdapterVersion.n)
    )
    aliases = (
        select(Adapter.name, AdapterAlias.alias, AdapterVersion.base_model, AdapterAlias.updated_at)
        .join(AdapterAlias, AdapterAlias.adapter_id == Adapter.id)
        .join(AdapterVersion, AdapterVersion.id == AdapterAlias.version_id)
        .where(Adapter.tenant_id == tenant_id, AdapterVersion.base_model.in_(bases.names))
        .order_by(Adapter.name, AdapterAlias.alias)
    )
    if viewer.adapters is not None:
        versions = versions.where(Adapter.name.in_(viewer.adapters))
        aliases = aliases.where(Adapter.name.in_(viewer.adapters))
    async with database.main.reading(tenant_id) as session:
        owner = await session.scalar(select(Tenant.name).where(Tenant.id == tenant_id))
        if owner is None:  # deleted a moment ago; its key is still known here for seconds
            return entries
        # Ordered by version, so that the newest one of an adapter is kept.
        newest = {name: (base, at) for name, base, at in await session.execute(versions)}
        named = [
            (f"{name}@{alias}", base, at)
            for name, alias, base, at in await session.execute(aliases)
        ]
    own = [(name, base, at) for name, (base, at) in newest.items()] + named
    entries += [
        ModelEntry(model, int(at.timestamp()), owner, base) for model, base, at in sorted(own)
    ]
    return entries
