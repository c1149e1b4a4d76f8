"""Owns many adapters put into a database at once, without weights, and sums of requests to them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Insert, insert
from uuid_utils.compat import uuid7

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Blob, UsageRollup
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.rollups import HOUR

SIZE = 3 * 2**20


async def add_adapters(
    database: Database, tenant: UUID, names: Iterable[str], alias: str = "prod"
) -> None:
    """Adapters of rank 8 with one version each, on the base model `base-NAME`. Its digest is the name behind zeros. All
    share one blob of `SIZE` bytes, without bytes."""
    blob = uuid7()
    adapters: list[dict[str, Any]] = []
    versions: list[dict[str, Any]] = []
    aliases: list[dict[str, Any]] = []
    for name in names:
        adapter, version = uuid7(), uuid7()
        adapters.append({"id": adapter, "tenant_id": tenant, "name": name, "last_version": 1})
        versions.append({
            "id": version, "tenant_id": tenant, "adapter_id": adapter, "n": 1,
            "digest": f"{name:0>64}", "blob_id": blob, "base_model": f"base-{name}",
            "base_fingerprint": "f" * 64, "config": b"{}", "report": {}, "rank": 8,
            "created_by": "test",
        })  # fmt: skip
        aliases.append({
            "tenant_id": tenant, "adapter_id": adapter, "alias": alias, "version_id": version,
            "updated_by": "test",
        })  # fmt: skip
    stored = {
        "id": blob,
        "tenant_id": tenant,
        "sha256": blob.hex * 2,
        "size": SIZE,
        "state": "ready",
    }
    await _write(
        database,
        (insert(Blob), [stored]),
        (insert(Adapter), adapters),
        (insert(AdapterVersion), versions),
        (insert(AdapterAlias), aliases),
    )


async def add_rollups(
    database: Database, tenant: UUID, adapters: Iterable[str], hours: Mapping[datetime, int]
) -> None:
    """Requests to each of some adapters, by the hour."""
    zeros = dict.fromkeys(
        ("errors", "prompt_tokens", "cached_tokens", "output_tokens", "cost_nanos"), 0
    )
    rows = [
        {
            "unit": HOUR, "tenant_id": tenant, "start": start, "key_id": "key000000001",
            "base_model": "tiny", "adapter": adapter, "version": 1, "requests": requests, **zeros,
        }
        for adapter in adapters
        for start, requests in hours.items()
    ]  # fmt: skip
    await _write(database, (insert(UsageRollup), rows))


async def _write(database: Database, *statements: tuple[Insert, list[dict[str, Any]]]) -> None:
    async with database.main.writing(EVERY_TENANT) as session:
        for statement, rows in statements:
            await session.execute(statement, rows)
