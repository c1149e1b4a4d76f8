"""Owns what tests of the platform share: an engine directory that only notes what it is told, a client with helpers,
and counts of what lies in the database."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Blob, BlobChunk, Upload
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import AdapterFile, Description, Purged
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.engines.process import ModelEndpoint
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.settings import ServedModel

OPERATOR = "operator-key-for-tests-0001"
# For tables of cases in which the kind of database plays no part.
sqlite_only = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


class FakeEngines(EnginePool):
    """Engines that are ready and hold nothing; only the catalog's calls to them matter here."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        super().__init__([ModelEndpoint(m.name, str(m.path), "inproc://none") for m in models])
        self.is_ready = True
        self.purged: list[tuple[str, str]] = []
        self.pinned: dict[str, list[AdapterFile]] = {}
        self.described: dict[str, Description] = {}
        self.statuses: dict[str, EngineStatus] = {}

    def ready(self) -> bool:
        return self.is_ready

    def metrics(self) -> dict[str, dict[str, float]]:
        return {"tiny": {"running": 3.0, "kv usage": 0.5}}

    def stats(self) -> dict[str, EngineStatus]:
        return self.statuses

    async def describe(self) -> dict[str, Description]:
        return self.described

    def pin(self, base: str, adapters: list[AdapterFile]) -> None:
        self.pinned[base] = adapters

    async def purge(self, base: str, identity: str) -> Purged | None:
        self.purged.append((base, identity))
        return Purged(0, identity, 1, 2, 3, 4, 5) if self.is_ready else None


def bearer(key: str) -> dict[str, str]:
    """The header that presents a key."""
    return {"authorization": f"Bearer {key}"}


@dataclass(slots=True)
class Api:
    """The app in process, with what tests need around it."""

    client: httpx.AsyncClient
    database: Database
    engines: FakeEngines
    spool: Path

    async def tenant(self, name: str, *scopes: str) -> str:
        """Make a tenant (unless it is there) with a key; returns the key."""
        await self.client.post("/api/v1/tenants", json={"name": name}, headers=bearer(OPERATOR))
        answer = await self.client.post(
            f"/api/v1/tenants/{name}/keys",
            json={"scopes": list(scopes)} if scopes else {},
            headers=bearer(OPERATOR),
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def push(
        self, key: str, adapter: Path | dict[str, bytes], name: str = "a", **texts: str
    ) -> httpx.Response:
        """Push an adapter directory, or the two files as bytes."""
        files = adapter_files(adapter) if isinstance(adapter, Path) else adapter
        return await self.client.post(
            "/api/v1/adapters",
            headers=bearer(key),
            data={"name": name, **texts},
            files={
                "config": ("adapter_config.json", files["config"]),
                "weights": ("adapter_model.safetensors", files["weights"]),
            },
        )

    async def stored(self) -> tuple[int, int, int]:
        """How many blobs, chunk rows and open uploads there are."""
        async with self.database.main.reading(EVERY_TENANT) as session:
            blobs = await session.scalar(select(func.count()).select_from(Blob))
            uploads = await session.scalar(select(func.count()).select_from(Upload))
        async with self.database.weights.reading(EVERY_TENANT) as session:
            chunks = await session.scalar(select(func.count()).select_from(BlobChunk))
        return blobs or 0, chunks or 0, uploads or 0

    def spooled(self) -> list[Path]:
        """Files left where uploads are spooled."""
        return list(self.spool.glob("*")) if self.spool.exists() else []


def adapter_files(path: Path) -> dict[str, bytes]:
    """The two files PEFT wrote."""
    return {
        "config": (path / "adapter_config.json").read_bytes(),
        "weights": (path / "adapter_model.safetensors").read_bytes(),
    }


def with_config(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """The same adapter with other config values."""
    config = {**json.loads(files["config"]), **changes}
    return {**files, "config": json.dumps(config).encode()}
