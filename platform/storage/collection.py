"""Owns removing what crashes, expired uploads and time leave behind: now and then by itself, and at once when asked."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import structlog
from msgspec import Struct, structs
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.files.service import Files
from loraplex.platform.files.uploads import FileUploads
from loraplex.platform.jobs.leases import JobQueue

SWEEP_SECONDS = 600.0


class Collected(Struct):
    """How many of each are gone. Files of uploads that broke off are not among them: they have no name, and go with
    the process that wrote them."""

    expired_uploads: int
    abandoned_pushes: int
    orphaned_weights: int
    expired_files: int
    expired_file_uploads: int
    old_jobs: int


class Collection:
    """Garbage of all tenants.

    Args:
        observe: told what went, by kind.
    """

    def __init__(
        self,
        database: Database,
        weights: Weights,
        files: Files,
        file_uploads: FileUploads,
        jobs: JobQueue,
        observe: Callable[[str, int], None],
    ) -> None:
        self._database = database
        self._weights = weights
        self._files = files
        self._file_uploads = file_uploads
        self._jobs = jobs
        self._observe = observe

    async def collect(self) -> Collected:
        """Remove what can go; safe at any time, by any number of processes."""
        swept = await self._weights.sweep()
        files, uploads = await self._files.sweep(), await self._file_uploads.sweep()
        collected = Collected(*swept, files, uploads, await self._jobs.clean())
        for kind, count in structs.asdict(collected).items():
            self._observe(kind, count)
        return collected

    async def collect_for(self, actor: Principal) -> Collected:
        """The same, asked for by an operator."""
        collected = await self.collect()
        async with self._database.main.writing(EVERY_TENANT) as session:
            record(session, actor, "storage.collect", "garbage", **structs.asdict(collected))
        return collected

    async def run(self, ending: asyncio.Event) -> None:
        """Collect until `ending` is set. Workers begin at different times, so that one does the work."""
        log = structlog.get_logger()
        while True:
            pause = SWEEP_SECONDS * random.uniform(0.1, 1)  # noqa: S311  # no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause)
                return
            try:
                collected = structs.asdict(await self.collect())
                if any(collected.values()):
                    log.info("garbage removed", **collected)
            except SQLAlchemyError as error:
                log.error("sweep failed", error=str(error))
