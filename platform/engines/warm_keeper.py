"""Owns the warm set of a loader process: what the last one had in memory is brought back, and what this one has is
written down. Beside that, what was deleted while no loader ran is removed from the disk."""

import logging
import threading
from collections.abc import Callable, Sequence

from sqlalchemy import select

from loraplex.adapters.cache import AdapterCache
from loraplex.adapters.disk_cache import DiskCache
from loraplex.adapters.reading import AdapterRef, disk_entry
from loraplex.platform.catalog.identity import identity
from loraplex.platform.db.database import Database
from loraplex.platform.db.loader_blobs import LoaderBlobs
from loraplex.platform.db.models import Adapter, AdapterVersion
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.db.warm_set import WarmSet
from loraplex.platform.engines.loader_messages import Restored

SAVE_SECONDS = 30.0
# While requests load adapters, restoring waits this long and looks again.
_PAUSE_SECONDS = 0.05

logger = logging.getLogger(__name__)


class WarmKeeper:
    """One thread; nothing else in the process waits for it.

    Attributes:
        resident: identities on the device, most valuable first, as the engine last said.
    """

    def __init__(
        self,
        door: LoaderBlobs,
        warm: WarmSet,
        cache: AdapterCache,
        files: DiskCache,
        restored: Callable[[Restored], None],
    ) -> None:
        self.resident: Sequence[str] = ()
        self._door = door
        self._warm = warm
        self._cache = cache
        self._files = files
        self._restored = restored
        self._found = files.entries()
        self._wanted: list[AdapterRef] = []
        self._wake = threading.Event()
        self._closed = False
        self._restoring = True
        self._thread = threading.Thread(target=self._run, name="warm-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def bring(self, refs: Sequence[AdapterRef]) -> None:
        """Bring these to the host as well, soon."""
        self._wanted = list(refs)
        self._wake.set()

    def close(self) -> None:
        """Write the set down a last time and end."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        # A set that was not restored in full is no better than the one in the database.
        if not self._restoring:
            self._attempt("saving the warm set", self._save)

    def _run(self) -> None:
        self._attempt("cleaning the disk cache", self._remove_deleted)
        self._attempt("restoring the warm set", self._restore)
        self._restoring = self._closed
        while not self._closed:
            woken = self._wake.wait(SAVE_SECONDS)
            self._wake.clear()
            if self._closed:
                return
            if woken:
                wanted, self._wanted = self._wanted, []
                for ref in wanted:
                    self._bring(ref)
            else:
                self._attempt("cleaning the disk cache", self._remove_deleted)
                self._attempt("saving the warm set", self._save)

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        """None of this is needed to serve."""
        try:
            work()
        except Exception:
            logger.warning(
                "%s failed; adapters are loaded when they are asked for", what, exc_info=True
            )

    def _remove_deleted(self) -> None:
        """The database alone is the truth: what was deleted while no loader ran must not survive here."""
        if self._found:
            stored = self._door.run(_stored_entries(self._door.database))
            for entry in self._found - stored:
                self._files.discard(entry)
            self._found.clear()  # what comes later is purged by order

    def _restore(self) -> None:
        adapters = self._door.run(self._warm.load())
        self._cache.pin([each.ref.identity for each in adapters if each.pinned])
        for each in adapters:
            # A packed adapter takes about what its file does; the last one may push out another, which is no harm.
            if not each.pinned and self._cache.room() < each.ref.size:
                break
            if self._closed:
                return
            if self._bring(each.ref):
                self._restored(Restored(each.ref))

    def _bring(self, ref: AdapterRef) -> bool:
        while self._cache.stats().loading and not self._closed:
            threading.Event().wait(_PAUSE_SECONDS)
        return not self._closed and self._cache.bring(ref)

    def _save(self) -> None:
        identities = dict.fromkeys([*self.resident, *self._cache.valuable()])
        self._door.run(self._warm.save(list(identities)))


async def _stored_entries(database: Database) -> set[str]:
    async with database.main.reading(EVERY_TENANT) as session:
        query = select(Adapter.tenant_id, AdapterVersion.digest).join(AdapterVersion.adapter)
        return {disk_entry(identity(*row)) for row in await session.execute(query)}
