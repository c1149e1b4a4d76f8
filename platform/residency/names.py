"""Owns turning an engine's names for adapters back into those of tenants, and what one tenant may be told of another:
nothing but that there is one."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import EVICTED_BY_KV

# What SQLite and PostgreSQL take in one IN list without complaint, with room to spare.
BATCH = 500


class AdapterName(NamedTuple):
    """A version by the names people know; of several versions with the same contents the newest."""

    tenant: str
    adapter: str
    version: int


def tenant_of(identity: str) -> str:
    """The id of the tenant in an identity; see `catalog.resolve.identity`."""
    return identity.partition("/")[0]


class Names:
    """Names of the adapters engines speak of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, identities: Iterable[str]) -> dict[str, AdapterName]:
        """Names by identity; adapters that are deleted have none."""
        pairs = {identity.partition("/")[::2] for identity in identities if "/" in identity}
        digests = sorted({digest for _, digest in pairs})
        found: dict[str, AdapterName] = {}
        async with self._database.main.reading(EVERY_TENANT) as session:
            for begin in range(0, len(digests), BATCH):
                query = (
                    select(
                        Tenant.id,
                        AdapterVersion.digest,
                        Tenant.name,
                        Adapter.name,
                        AdapterVersion.n,
                    )
                    .join(Adapter, Adapter.tenant_id == Tenant.id)
                    .join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
                    .where(AdapterVersion.digest.in_(digests[begin : begin + BATCH]))
                    .order_by(AdapterVersion.id)
                )
                for tenant_id, digest, tenant, adapter, n in await session.execute(query):
                    found[f"{tenant_id}/{digest}"] = AdapterName(tenant, adapter, n)
        return found


def evictor(identity: str | None, viewer: UUID | None, names: dict[str, AdapterName]) -> str | None:
    """Who pushed an adapter out, in words `viewer` may read: a tenant, or None for an operator."""
    if identity is None:
        return None
    if identity == EVICTED_BY_KV:
        return "KV"
    if viewer is not None and tenant_of(identity) != str(viewer):
        return "another tenant's adapter"
    name = names.get(identity)
    if name is None:
        return "a deleted adapter" if viewer is not None else f"deleted adapter {identity}"
    version = f"{name.adapter}@{name.version}"
    return version if viewer is not None else f"{name.tenant}/{version}"
