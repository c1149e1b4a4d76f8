"""Owns deleting a tenant: first nobody gets in any more, then its adapters go with their proofs, then the rest.

Each step is committed by itself and can be done again: after a crash the same deletion is asked for once more."""

import asyncio
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update

from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.removal import Removals
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, ApiKey, Blob, Membership, OneTimeCode, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import NotFoundError
from loraplex.platform.tenants.service import entitlement
from loraplex.platform.tenants.shares import Shares

# Adapters removed at a time: an engine that is down is waited for up to 10 s for each.
AT_ONCE = 16


class TenantRemovals:
    """Deletes tenants."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        removals: Removals,
        weights: Weights,
        shares: Shares,
        sessions: Sessions,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._removals = removals
        self._weights = weights
        self._shares = shares
        self._sessions = sessions

    async def delete(self, actor: Principal, tenant_id: UUID) -> None:
        """Remove a tenant with its adapters, uploads, keys, members, webhooks and limits. Its ledger and its audit
        trail stay; its running requests end as those of deleted adapters do.

        Raises:
            NotFoundError: somebody else deleted it meanwhile.
        """
        await self._shut_out(tenant_id)
        removed = 0
        # Where another process still knew a key, something may have been pushed since the last look.
        while True:
            removed += await self._remove_adapters(actor, tenant_id)
            blobs = await self._remove_rest(actor, tenant_id, removed)
            if blobs is not None:
                break
        for blob_id in blobs:
            await self._weights.chunks.delete(blob_id)
        self._shares.forget(tenant_id)

    async def _shut_out(self, tenant_id: UUID) -> None:
        async with self._database.main.writing(EVERY_TENANT) as session:
            good = (ApiKey.tenant_id == tenant_id, ApiKey.revoked_at.is_(None))
            await session.execute(update(ApiKey).where(*good).values(revoked_at=utc_now()))
            await session.execute(delete(Membership).where(Membership.tenant_id == tenant_id))
            await session.execute(delete(OneTimeCode).where(OneTimeCode.tenant_id == tenant_id))
        self._authenticator.forget()
        self._sessions.forget()

    async def _remove_adapters(self, actor: Principal, tenant_id: UUID) -> int:
        """How many adapters went."""
        query = select(Adapter.name).where(Adapter.tenant_id == tenant_id)
        async with self._database.main.reading(tenant_id) as session:
            names = (await session.scalars(query)).all()
        slots = asyncio.Semaphore(AT_ONCE)

        async def remove(name: str) -> bool:
            async with slots:
                try:
                    await self._removals.delete_adapter(actor, tenant_id, name)
                except NotFoundError:
                    return False  # somebody was quicker
            return True

        # Each to its end: one that fails leaves none running behind.
        done = await asyncio.gather(*(remove(name) for name in names), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome
        return done.count(True)

    async def _remove_rest(
        self, actor: Principal, tenant_id: UUID, adapters: int
    ) -> list[UUID] | None:
        """The blobs whose chunks have to go now; None if there are adapters again."""
        async with self._database.main.writing(EVERY_TENANT) as session:
            # Locked: whoever adds something for the tenant comes before or finds no tenant.
            query = select(Tenant).where(Tenant.id == tenant_id).with_for_update()
            tenant = await session.scalar(query)
            if tenant is None:
                raise NotFoundError("The tenant has been deleted meanwhile.")
            if await session.scalar(select(exists().where(Adapter.tenant_id == tenant_id))):
                return None
            # Those of uploads under way.
            blobs = list(await session.scalars(select(Blob.id).where(Blob.tenant_id == tenant_id)))
            count = select(func.count()).select_from(ApiKey).where(ApiKey.tenant_id == tenant_id)
            record(
                session,
                actor,
                "tenant.delete",
                tenant.name,
                tenant_id,
                before=entitlement(tenant),
                adapters=adapters,
                keys=await session.scalar(count),
            )
            await session.execute(delete(Tenant).where(Tenant.id == tenant_id))
        return blobs
