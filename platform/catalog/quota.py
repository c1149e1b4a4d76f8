"""Owns how many bytes of weights and files a tenant may store, and how many it does. What is being uploaded counts with
its whole size from the beginning; equal weights count once."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Blob, Tenant
from loraplex.platform.errors import PayloadTooLargeError


class StorageOut(Struct):
    """What a tenant stores: bytes of weights and of files, in how many pieces; `limit` is null where there is none."""

    used: int
    limit: int | None
    files: int


async def check_quota(session: AsyncSession, tenant_id: UUID, additional: int) -> None:
    """Within the transaction that makes room for `additional` bytes: see that there is some. The tenant's row stays
    locked until its end, so that two do not take the same room.

    Raises:
        PayloadTooLargeError: there is not.
    """
    # Not against what merely refers to the tenant: every new row of it does.
    query = select(Tenant.storage_limit).where(Tenant.id == tenant_id)
    limit = await session.scalar(query.with_for_update(key_share=True))
    if limit is None:
        return
    used = await session.scalar(_used(tenant_id)) or 0
    if used + additional > limit:
        raise PayloadTooLargeError(
            f"The tenant stores {used} of {limit} bytes, and {additional} more do not fit; delete "
            "versions or files, or ask the operator for more.",
            code="storage_quota_exceeded",
            param="size",
        )


async def storage(database: Database, tenant_id: UUID) -> StorageOut:
    """What a tenant stores now."""
    async with database.main.reading(tenant_id) as session:
        limit = await session.scalar(select(Tenant.storage_limit).where(Tenant.id == tenant_id))
        used = await session.scalar(_used(tenant_id)) or 0
        count = select(func.count()).select_from(Blob).where(Blob.tenant_id == tenant_id)
        return StorageOut(int(used), limit, await session.scalar(count) or 0)


def _used(tenant_id: UUID) -> Select[int]:
    return select(func.sum(Blob.size)).where(Blob.tenant_id == tenant_id)
