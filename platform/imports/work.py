"""Owns doing an import: from its place through a file on disk and the same admission as a push into the catalog. The
version and the end of the job become visible together, or neither does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import IO
from uuid import UUID

import httpx
from msgspec import Struct, convert
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.catalog.uploads import MAX_WEIGHTS
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.database import Database
from loraplex.platform.errors import PayloadTooLargeError, UnprocessableError
from loraplex.platform.forms import open_spool
from loraplex.platform.imports.folder import FolderPlace
from loraplex.platform.imports.hub import HubPlace
from loraplex.platform.imports.options import ImportOptions
from loraplex.platform.imports.places import Found, Place
from loraplex.platform.imports.s3 import S3Place
from loraplex.platform.imports.schemas import Asker, ImportSource, Secrets
from loraplex.platform.jobs.leases import Claim, succeed
from loraplex.platform.jobs.runner import Progress
from loraplex.platform.webhooks.events import Event, emit

KIND = "import"
WAIT_SECONDS = 60.0  # for more of an answer
# 16 GiB at a little more than a megabyte per second; slower senders would hold up everybody's imports.
MAX_SECONDS = 4 * 3600.0


class ImportOrder(Struct):
    """What the job keeps; `secret`: a token or credentials belong to it that only the process that took it knows."""

    name: str
    alias: str | None
    base: str | None
    source: ImportSource
    secret: bool
    actor: Asker


class ImportWork:
    """The kind of jobs that import; implements `JobKind`."""

    def __init__(
        self, database: Database, intake: Intake, weights: Weights, options: ImportOptions
    ) -> None:
        self._database = database
        self._intake = intake
        self._weights = weights
        self._options = options
        self._outbound = options.outbound()
        self._secrets: dict[UUID, Secrets] = {}

    def remember(self, job_id: UUID, secrets: Secrets) -> None:
        """Keep what a job needs and must not be stored, as long as this process runs it."""
        self._secrets[job_id] = secrets

    def forget(self, job_id: UUID) -> None:
        """See `JobKind.forget`."""
        self._secrets.pop(job_id, None)

    async def run(self, claim: Claim, progress: Progress) -> None:
        """See `JobKind.run`."""
        order = convert(claim.request, ImportOrder)
        secrets = self._secrets.get(claim.id)
        if order.secret and secrets is None:
            raise UnprocessableError(
                "The server was restarted, and tokens and credentials are not kept; import again."
            )
        async with self._outbound.client(WAIT_SECONDS) as client:
            place = self._place(order.source, secrets or Secrets(), client)
            async with place.open() as found:
                with await asyncio.to_thread(open_spool, self._options.spool) as spool:
                    await self._take_in(claim, order, found, spool, progress)

    async def failed(self, session: AsyncSession, claim: Claim, error: str) -> None:
        """See `JobKind.failed`."""
        data = {"job": claim.id, "adapter": claim.request["name"], "error": error}
        await emit(session, claim.tenant_id, Event.IMPORT_FAILED, data)

    def _place(self, source: ImportSource, secrets: Secrets, client: httpx.AsyncClient) -> Place:
        options = self._options
        if source.huggingface is not None:
            token = secrets.token or options.hf_token
            return HubPlace(client, options.hf_endpoint, source.huggingface, token)
        if source.s3 is not None:
            return S3Place(client, source.s3, secrets.credentials)
        assert source.path is not None
        if options.folder is None:
            raise UnprocessableError("The server was started without --import-dir.")
        return FolderPlace(options.folder, source.path)

    async def _take_in(
        self,
        claim: Claim,
        order: ImportOrder,
        found: Found,
        spool: IO[bytes],
        progress: Progress,
    ) -> None:
        size = await self._check_size(claim.tenant_id, found)
        progress.total = size
        intent = self._intake.intent(
            claim.tenant_id,
            name=order.name,
            config=found.config,
            base=order.base,
            alias=order.alias,
            chat_template=None,
            source=found.source,
        )
        try:
            async with asyncio.timeout(MAX_SECONDS):
                pieces = _spooled(found.weights, spool, progress)
                report = await self._intake.inspect(intent, pieces, size)
        except TimeoutError as error:
            raise UnprocessableError(
                f"The weights took more than {MAX_SECONDS / 3600:.0f} hours; push them instead."
            ) from error
        if found.sha256 is not None and found.sha256 != report.weights_sha256:
            raise UnprocessableError(
                "The weights that arrived are not those the source tells of; import again.",
                code="digest_mismatch",
            )

        async def end(session: AsyncSession, n: int) -> None:
            result: Mapping[str, object] = {
                "adapter": order.name,
                "version": n,
                "model": f"{order.name}@{n}",
                "digest": report.version_digest,
                "source": found.source,
                "warnings": list(report.warnings),
            }
            await succeed(session, claim, dict(result))
            await emit(
                session, claim.tenant_id, Event.IMPORT_SUCCEEDED, {"job": claim.id, **result}
            )

        spool.seek(0)
        await self._intake.keep(_actor(claim, order), intent, report, spool, end)

    async def _check_size(self, tenant_id: UUID, found: Found) -> int:
        if found.size is None:
            raise UnprocessableError("The source does not tell how large the weights are.")
        if found.size > MAX_WEIGHTS:
            raise PayloadTooLargeError(
                f"The weights have {found.size} bytes; at most {MAX_WEIGHTS // 1024**3} GiB are "
                "allowed."
            )
        if found.sha256 is None or await self._weights.find(tenant_id, found.sha256) is None:
            async with self._database.main.writing(tenant_id) as session:
                # Once more when they are stored: here only so that nothing is fetched in vain.
                await check_quota(session, tenant_id, found.size)
        return found.size


def _actor(claim: Claim, order: ImportOrder) -> Principal:
    return Principal(
        actor_id=claim.created_by,
        actor_name=order.actor.name,
        address=order.actor.address,
        is_operator=order.actor.operator,
        tenant_id=None if order.actor.operator else claim.tenant_id,
    )


async def _spooled(
    source: AsyncIterator[bytes], spool: IO[bytes], progress: Progress
) -> AsyncIterator[bytes]:
    """Pass the bytes on, with a copy on disk: a wrong adapter is refused at its header, before the rest is fetched."""
    async for piece in source:
        progress.advance(len(piece))
        await asyncio.to_thread(spool.write, piece)
        yield piece
