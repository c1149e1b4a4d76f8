"""Owns which adapters an engine had in memory, written down now and then, so that the next one can begin with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from loraplex.adapters.reading import AdapterRef
from loraplex.platform.catalog.identity import identity
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, Blob, WarmAdapter

# More than any device holds; restoring them reads what the host tier has room for.
MAX_WARM = 1000


@dataclass(frozen=True, slots=True)
class WarmAdapterRef:
    """An adapter worth having, and whether an operator wants it there always."""

    ref: AdapterRef
    pinned: bool


class WarmSet:
    """The warm set of the engines of one base model, by its fingerprint."""

    def __init__(self, database: Database, fingerprint: str) -> None:
        self._database = database
        self._fingerprint = fingerprint
        self._saved: Sequence[str] = ()

    async def load(self) -> list[WarmAdapterRef]:
        """Pinned adapters first, then the most valuable."""
        query = (
            select(
                Adapter.tenant_id,
                AdapterVersion.digest,
                AdapterVersion.config,
                Blob.sha256,
                Blob.size,
                Adapter.pinned,
            )
            .select_from(WarmAdapter)
            .join(AdapterVersion, AdapterVersion.id == WarmAdapter.adapter_version_id)
            .join(Adapter, Adapter.id == AdapterVersion.adapter_id)
            .join(Blob, Blob.id == AdapterVersion.blob_id)
            .where(WarmAdapter.base_fingerprint == self._fingerprint)
            .order_by(Adapter.pinned.desc(), WarmAdapter.position)
        )
        async with self._database.main.connection() as connection:
            rows = (await connection.execute(query)).all()
        return [
            WarmAdapterRef(AdapterRef(identity(tenant, digest), sha256, size, config), pinned)
            for tenant, digest, config, sha256, size, pinned in rows
        ]

    async def save(self, identities: Sequence[str]) -> None:
        """Replace the set, most valuable first; what is not in the catalog any more is left out."""
        identities = identities[:MAX_WARM]
        if identities == self._saved:
            return
        mine = WarmAdapter.base_fingerprint == self._fingerprint
        async with self._database.main.transaction() as connection:
            known = await self._versions(connection, identities)
            # Equal files pushed under two names are one identity, and one of its versions stands for it.
            ids = [known[each] for each in identities if each in known]
            rows = [
                {
                    "base_fingerprint": self._fingerprint,
                    "adapter_version_id": version_id,
                    "position": position,
                }
                for position, version_id in enumerate(dict.fromkeys(ids))
            ]
            await connection.execute(delete(WarmAdapter).where(mine))
            if rows:
                await connection.execute(insert(WarmAdapter), rows)
        self._saved = list(identities)

    async def _versions(
        self, connection: AsyncConnection, identities: Sequence[str]
    ) -> dict[str, UUID]:
        """Versions by identity, kept from being deleted until the transaction ends."""
        digests = [each.partition("/")[2] for each in identities]
        query = (
            select(Adapter.tenant_id, AdapterVersion.digest, AdapterVersion.id)
            .join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
            .where(
                AdapterVersion.base_fingerprint == self._fingerprint,
                AdapterVersion.digest.in_(digests),
            )
            .with_for_update(read=True, key_share=True, of=AdapterVersion)
        )
        rows = (await connection.execute(query)).all()
        return {identity(tenant, digest): version_id for tenant, digest, version_id in rows}
