"""Owns a weights store for tests that counts, delays and fails as told."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator

from loraplex.adapters.errors import BlobUnavailableError
from loraplex.adapters.reading import AdapterRef
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.model_config import Module
from support.patience import PATIENCE_SECONDS


class MemoryStore:
    """A `BlobStore` in memory.

    Attributes:
        reads: how often each digest was asked for.
        gate: readers wait for it after their first piece; open unless a test closes it.
        started: set when a reader has reached the gate.
        failures: errors to raise, by digest, one per reading.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reads: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.failures: dict[str, list[Exception]] = {}

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.files[digest] = data
        return digest

    def add_adapter(
        self, config: bytes, data: bytes, modules: tuple[Module, ...], tenant: str = "t"
    ) -> AdapterRef:
        """Admit and keep an adapter."""
        inspector = UploadInspector(config, modules)
        inspector.feed(data)
        report = inspector.finish()
        identity = f"{tenant}/{report.version_digest}"
        return AdapterRef(identity, self.add(data), len(data), report.canonical_config)

    def read(self, digest: str) -> Iterator[bytes]:
        self.reads[digest] += 1
        if errors := self.failures.get(digest):
            raise errors.pop(0)
        if digest not in self.files:
            raise BlobUnavailableError("the adapter's weights are missing from storage.")
        data = self.files[digest]
        half = len(data) // 2
        yield data[:half]
        self.started.set()
        assert self.gate.wait(PATIENCE_SECONDS), "the test never opened the gate"
        yield data[half:]

    def size(self, digest: str) -> int:
        return len(self.files[digest])
