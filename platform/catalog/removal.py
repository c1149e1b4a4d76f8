"""Owns deleting versions and adapters: from the database, from every tier of every engine, and the proof of it, which
stays with the audit entry of the deletion."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.identity import identity
from loraplex.platform.catalog.rows import find_adapter, find_aliases, find_version
from loraplex.platform.catalog.schemas import names
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, AuditEntry, Limit, Meter
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import Purged
from loraplex.platform.errors import ConflictError
from loraplex.platform.metering.limits import ADAPTER
from loraplex.platform.webhooks.events import Event, emit

NO_ANSWER = "no engine answered in time; it removes its copies when it is back"
KEPT = "kept: another version of this tenant has the same contents"

# (base model, identity): what one engine knows a deleted version by.
Purge = tuple[str, str]


class Removals:
    """Deletes what a tenant has pushed; every method takes the tenant and looks nowhere else."""

    def __init__(
        self, database: Database, weights: Weights, engines: EngineDirectory, epochs: Epochs
    ) -> None:
        self._database = database
        self._epochs = epochs
        self._weights = weights
        self._engines = engines

    async def delete_version(
        self, actor: Principal, tenant_id: UUID, name: str, version: int
    ) -> None:
        """Remove a version from the database and from every engine.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
            ConflictError: an alias names it.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            target = await find_version(session, adapter, version)
            for alias in await find_aliases(session, [adapter.id]):
                if names(alias, target):
                    raise ConflictError(
                        f"The alias {alias.alias!r} names {name}@{version}; move or delete the "
                        "alias first."
                    )
            await session.delete(target)
            await session.flush()
            blobs = await self._weights.release(session, {target.blob_id})
            purges = await _purges(session, tenant_id, [target])
            entry = record(
                session,
                actor,
                "version.delete",
                f"{name}@{version}",
                tenant_id,
                before={"base": target.base_model},
                digest=target.digest,
            )
            data = {"adapter": name, "version": version, "digest": target.digest}
            await emit(session, tenant_id, Event.VERSION_DELETED, data)
        self._epochs.change(tenant_id)
        await self._clean(entry, blobs, purges)

    async def delete_adapter(self, actor: Principal, tenant_id: UUID, name: str) -> None:
        """Remove an adapter with its versions and aliases, here and in every engine.

        Raises:
            NotFoundError: the tenant has no such adapter.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            query = select(AdapterVersion).where(AdapterVersion.adapter_id == adapter.id)
            versions = (await session.scalars(query)).all()
            await session.execute(delete(Adapter).where(Adapter.id == adapter.id))
            for table in (
                Limit,
                Meter,
            ):  # they know it by its name for subjects, not by a foreign key
                of_adapter = (table.subject == ADAPTER, table.subject_id == str(adapter.id))
                await session.execute(delete(table).where(*of_adapter))
            blobs = await self._weights.release(session, {v.blob_id for v in versions})
            purges = await _purges(session, tenant_id, versions)
            before = {"versions": len(versions)}
            entry = record(session, actor, "adapter.delete", name, tenant_id, before=before)
            await emit(session, tenant_id, Event.ADAPTER_DELETED, {"adapter": name, **before})
        self._epochs.change(tenant_id)
        await self._clean(entry, blobs, purges)

    async def _clean(self, entry: AuditEntry, blobs: list[UUID], purges: set[Purge]) -> None:
        # Engines first: what stays behind after a crash here is garbage that the sweep finds.
        first = await self._purge(purges)
        for blob_id in blobs:
            await self._weights.chunks.delete(blob_id)
        # A request that had looked the version up before it was deleted may have brought it back to an engine that was
        # through with it. Now there is nothing left that it could be loaded from.
        again = await self._purge({purge for purge, done in first.items() if done is not None})
        await self._prove(entry, first, again)

    async def _purge(self, purges: set[Purge]) -> dict[Purge, Purged | None]:
        ordered = sorted(purges)
        done = await asyncio.gather(*(self._engines.purge(*purge) for purge in ordered))
        return dict(zip(ordered, done, strict=True))

    async def _prove(
        self,
        entry: AuditEntry,
        first: dict[Purge, Purged | None],
        again: dict[Purge, Purged | None],
    ) -> None:
        """Write down what each engine removed, or that it has still to."""
        proof: dict[str, object] = {}
        for base in sorted({base for base, _ in first}):
            answers = [
                answer
                for answers in (first, again)
                for (b, _), answer in answers.items()
                if b == base
            ]
            removed = [answer for answer in answers if answer is not None]
            proof[base] = (
                NO_ANSWER
                if len(removed) < len(answers)
                else {
                    "device_pages_zeroed": sum(r.pages for r in removed),
                    "kv_blocks_dropped": sum(r.blocks for r in removed),
                    "host_entries_removed": sum(r.host_entries for r in removed),
                    "disk_files_removed": sum(r.disk_files for r in removed),
                    "requests_ended": sum(r.requests for r in removed),
                }
            )
        async with self._database.main.writing(EVERY_TENANT) as session:
            row = await session.get_one(AuditEntry, entry.id)
            row.detail = {**row.detail, "engines": proof or KEPT}


async def _purges(
    session: AsyncSession, tenant_id: UUID, deleted: Sequence[AdapterVersion]
) -> set[Purge]:
    """What engines have to purge of deleted versions: not what another version of the tenant still has."""
    gone = set()
    for version in deleted:
        same = exists().where(
            AdapterVersion.adapter_id == Adapter.id,
            Adapter.tenant_id == tenant_id,
            AdapterVersion.base_model == version.base_model,
            AdapterVersion.digest == version.digest,
        )
        if not await session.scalar(select(same)):
            gone.add((version.base_model, identity(tenant_id, version.digest)))
    return gone
