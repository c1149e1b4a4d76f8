"""Owns what tests of the loader process need: adapters stored in a database as the catalog does, and a client."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from loraplex.adapters.figures import Forgotten
from loraplex.adapters.reading import AdapterRef
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.lora import LoadResult
from loraplex.engine.model_config import ModelConfig
from loraplex.platform.catalog.identity import identity
from loraplex.platform.db.blobs import CHUNK_SIZE, DatabaseBlobs
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, Blob, BlobState, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.loader_client import LoaderClient
from loraplex.platform.settings import Settings
from support.patience import PATIENCE_SECONDS


async def store_adapter(
    database: Database,
    model: ModelConfig,
    config: bytes,
    data: bytes,
    *,
    name: str,
    pinned: bool = False,
) -> AdapterRef:
    """One version of a new adapter of a new tenant, both called `name`."""
    inspector = UploadInspector(config, model.modules())
    inspector.feed(data)
    report = inspector.finish()
    tenant = Tenant(name=name)
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(tenant)
        await session.flush()
        adapter = Adapter(tenant_id=tenant.id, name=name, last_version=1, pinned=pinned)
        blob = Blob(
            tenant_id=tenant.id,
            sha256=report.weights_sha256,
            size=len(data),
            state=BlobState.READY,
        )
        session.add_all([adapter, blob])
        await session.flush()
        session.add(
            AdapterVersion(
                tenant_id=tenant.id,
                adapter_id=adapter.id,
                n=1,
                digest=report.version_digest,
                blob_id=blob.id,
                base_model="base",
                base_fingerprint=model.fingerprint,
                config=report.canonical_config,
                report={},
                rank=4,
                created_by="test",
            )
        )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK_SIZE):
            yield data[start : start + CHUNK_SIZE]

    await DatabaseBlobs(database.weights).append(blob.id, pieces())
    return AdapterRef(
        identity(tenant.id, report.version_digest),
        report.weights_sha256,
        len(data),
        report.canonical_config,
    )


class Loading:
    """A client with helpers."""

    def __init__(self, settings: Settings, base: Path, host_bytes: int) -> None:
        self.client = LoaderClient(settings.to_json(), str(base), torch.float32, host_bytes)

    def load(self, *handles: int, seconds: float = PATIENCE_SECONDS) -> dict[int, LoadResult]:
        """Request and wait for all results; nothing is released."""
        for handle in handles:
            self.client.request(handle)
        found: dict[int, LoadResult] = {}

        def done() -> bool:
            found.update((result.handle, result) for result in self.client.collect())
            return len(found) == len(handles)

        self.until(done, seconds)
        return found

    def forgotten(self) -> list[Forgotten]:
        """Wait until the loader confirms purges."""
        found: list[Forgotten] = []

        def some() -> bool:
            found.extend(self.client.forgotten())
            return bool(found)

        self.until(some)
        return found

    def restored(self, count: int) -> list[AdapterRef]:
        """Wait for so many adapters of the warm set."""
        found: list[AdapterRef] = []

        def enough() -> bool:
            found.extend(self.client.restored())
            return len(found) >= count

        self.until(enough)
        return found

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """As a loop would wait."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            self.client.wait(0.05)


@contextmanager
def loading(settings: Settings, base: Path, host_bytes: int = 1 << 26) -> Iterator[Loading]:
    """A loader process over these settings, ended in order."""
    made = Loading(settings, base, host_bytes)
    try:
        yield made
    finally:
        made.client.close()
