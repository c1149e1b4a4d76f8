"""Owns finding one tenant's adapters, versions and aliases within a session."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.version_number import MAX_VERSION
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, GoldenPrompt
from loraplex.platform.errors import NotFoundError


def no_adapter(name: str) -> NotFoundError:
    """What everybody is told of an adapter that is not there for them."""
    return NotFoundError(f"There is no adapter {name[:63]!r}.")


async def find_adapter(
    session: AsyncSession, viewer: Principal, tenant_id: UUID, name: str, *, lock: bool = False
) -> Adapter:
    """An adapter by name, its row held until the transaction ends if `lock`.

    Raises:
        NotFoundError: the tenant has no such adapter, or the key may not see it.
    """
    if not viewer.may_see(name):
        raise no_adapter(name)
    query = select(Adapter).where(Adapter.tenant_id == tenant_id, Adapter.name == name)
    adapter = await session.scalar(query.with_for_update() if lock else query)
    if adapter is None:
        raise no_adapter(name)
    return adapter


async def find_version(session: AsyncSession, adapter: Adapter, n: int) -> AdapterVersion:
    """A version of an adapter, with its blob.

    Raises:
        NotFoundError: there is none of this number.
    """
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


async def find_aliases(session: AsyncSession, adapter_ids: list[UUID]) -> Sequence[AdapterAlias]:
    """Aliases of several adapters by name, with what they name and named before."""
    query = (
        select(AdapterAlias)
        .where(AdapterAlias.adapter_id.in_(adapter_ids))
        .order_by(AdapterAlias.alias)
        .options(joinedload(AdapterAlias.version), joinedload(AdapterAlias.previous))
    )
    return (await session.scalars(query)).all()


async def find_golden(session: AsyncSession, version_id: UUID) -> Sequence[GoldenPrompt]:
    """The golden prompts of a version, in their order."""
    query = (
        select(GoldenPrompt).where(GoldenPrompt.version_id == version_id).order_by(GoldenPrompt.id)
    )
    return (await session.scalars(query)).all()
