"""Owns turning a request's `model` into what is to run: one query, always within one tenant."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, and_, select
from sqlalchemy.orm import contains_eager

from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.names import DEFAULT_ALIAS, ModelName, parse_model
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion
from loraplex.platform.errors import ModelNotFoundError, NotFoundError


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """One immutable version, with all an engine needs to load it.

    Attributes:
        id: of the version's row.
        identity: one opaque string per (tenant, digest); the key of every cache.
        digest: SHA-256 over canonical config and weights, hex.
        weights_sha256, size: of the stored safetensors file.
        config: canonical config, JSON.
        chat_template: the adapter's own, None for the base model's.
        max_running: most requests an engine works on at once, None without a limit.
    """

    id: UUID
    adapter: str
    n: int
    identity: str
    digest: str
    weights_sha256: str
    size: int
    config: bytes
    chat_template: str | None
    max_running: int | None


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A base model, and the version to run on it unless the base itself was asked for."""

    base_name: str
    version: ResolvedVersion | None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of `/v1/models`; `parent` is the base model of an adapter."""

    id: str
    created: int
    owned_by: str
    parent: str | None


def identity(tenant_id: UUID, digest: str) -> str:
    """The name under which engines know a version: equal files of two tenants have two."""
    return f"{tenant_id}/{digest}"


async def resolve(
    database: Database, bases: BaseModels, tenant_id: UUID, model: str
) -> ResolvedModel:
    """What `model` means to this tenant now.

    Raises:
        ModelNotFoundError: nothing, or nothing this tenant may see.
        NotFoundError: an adapter of this tenant whose base model is not served here.
    """
    if bases.get(model) is not None:
        return ResolvedModel(model, None)
    name = parse_model(model)
    if name is None:
        raise ModelNotFoundError(model)
    async with database.main.reading(tenant_id) as session:
        version = await session.scalar(_version_query(tenant_id, name))
    if version is None:
        raise ModelNotFoundError(model)
    base = bases.get(version.base_model)
    if base is None or base.fingerprint != version.base_fingerprint:
        raise NotFoundError(
            f"{name.adapter}@{version.n} was made for the base model {version.base_model!r}, "
            "which is not served here now.",
            code=ModelNotFoundError.default_code,
            param="model",
        )
    return ResolvedModel(
        base.name,
        ResolvedVersion(
            id=version.id,
            adapter=name.adapter,
            n=version.n,
            identity=identity(tenant_id, version.digest),
            digest=version.digest,
            weights_sha256=version.blob.sha256,
            size=version.blob.size,
            config=version.config,
            chat_template=version.chat_template,
            max_running=version.adapter.max_running,
        ),
    )


async def list_models(
    database: Database, bases: BaseModels, tenant_id: UUID, tenant_name: str
) -> list[ModelEntry]:
    """Base models, then the tenant's adapters and their aliases, of bases served here."""
    entries = [ModelEntry(base.name, base.created, "loraplex", None) for base in bases.all()]
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
    async with database.main.reading(tenant_id) as session:
        # Ordered by version, so that the newest one of an adapter is kept.
        newest = {name: (base, at) for name, base, at in await session.execute(versions)}
        named = [
            (f"{name}@{alias}", base, at)
            for name, alias, base, at in await session.execute(aliases)
        ]
    own = [(name, base, at) for name, (base, at) in newest.items()] + named
    entries += [
        ModelEntry(model, int(at.timestamp()), tenant_name, base) for model, base, at in sorted(own)
    ]
    return entries


def _version_query(tenant_id: UUID, name: ModelName) -> Select[AdapterVersion]:
    query = (
        select(AdapterVersion)
        .join(AdapterVersion.adapter)
        .join(AdapterVersion.blob)
        .options(contains_eager(AdapterVersion.blob), contains_eager(AdapterVersion.adapter))
        .where(
            Adapter.tenant_id == tenant_id,
            Adapter.name == name.adapter,
            AdapterVersion.state == "ready",
        )
        .limit(1)
    )
    if name.version is not None:
        return query.where(AdapterVersion.n == name.version)
    alias = and_(
        AdapterAlias.version_id == AdapterVersion.id,
        AdapterAlias.alias == (name.alias or DEFAULT_ALIAS),
    )
    if name.alias is not None:
        return query.join(AdapterAlias, alias)
    # The version `prod` names comes first; without that alias, the newest.
    return query.outerjoin(AdapterAlias, alias).order_by(
        AdapterAlias.alias.is_(None), AdapterVersion.n.desc()
    )
