"""Owns asking for imports: what is asked is checked, written down as a job and left to a worker."""

from uuid import UUID

import httpx
from msgspec import to_builtins

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.names import check_adapter_name, check_alias
from loraplex.platform.catalog.quota import check_quota
from loraplex.platform.catalog.rows import no_adapter
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Job
from loraplex.platform.errors import BadRequestError, PermissionDeniedError
from loraplex.platform.imports.hub import check_hub
from loraplex.platform.imports.options import ImportOptions
from loraplex.platform.imports.s3 import check_s3
from loraplex.platform.imports.schemas import Asker, ImportCreate, ImportSource, split_secrets
from loraplex.platform.imports.work import KIND, ImportWork
from loraplex.platform.jobs.leases import enqueue
from loraplex.platform.jobs.runner import JobRunner
from loraplex.platform.outbound import RefusedTargetError


class ImportService:
    """Imports for all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(
        self,
        database: Database,
        bases: BaseModels,
        options: ImportOptions,
        work: ImportWork,
        runner: JobRunner,
    ) -> None:
        self._database = database
        self._bases = bases
        self._options = options
        self._outbound = options.outbound()
        self._work = work
        self._runner = runner

    async def open(self, actor: Principal, tenant_id: UUID, wish: ImportCreate) -> Job:
        """Begin an import; the job is there when this returns.

        Raises:
            BadRequestError: a name, the base or the source.
            PermissionDeniedError: a source only operators have.
            NotFoundError: an adapter this key is not for.
            PayloadTooLargeError: the tenant has no room at all.
            ConflictError: the tenant has too many jobs.
        """
        check_adapter_name(wish.name, self._bases.names)
        if not actor.may_see(wish.name):
            raise no_adapter(wish.name)
        if wish.alias is not None:
            check_alias(wish.alias)
        self._bases.choose(wish.base)
        self._check(actor, wish.source)
        source, secrets = split_secrets(wish.source)
        job = Job(
            tenant_id=tenant_id,
            kind=KIND,
            request={
                "name": wish.name,
                "alias": wish.alias,
                "base": wish.base,
                "source": to_builtins(source),
                "secret": secrets is not None,
                "actor": to_builtins(Asker(actor.actor_name, actor.address, actor.is_operator)),
            },
            created_by=actor.actor_id,
        )
        async with self._database.main.writing(tenant_id) as session:
            await check_quota(session, tenant_id, 1)
            await enqueue(session, job, keep=secrets is not None)
            record(
                session,
                actor,
                "import.create",
                wish.name,
                tenant_id,
                job=job.id,
                source=job.request["source"],
            )
        if secrets is not None:
            self._work.remember(job.id, secrets)
            self._runner.keep(job.id)
        self._runner.wake()
        return job

    def _check(self, actor: Principal, source: ImportSource) -> None:
        given = [x for x in (source.huggingface, source.s3, source.path) if x is not None]
        if len(given) != 1:
            raise BadRequestError(
                "source: give exactly one of huggingface, s3 and path.", param="source"
            )
        if source.huggingface is not None:
            check_hub(source.huggingface)
        elif source.s3 is not None:
            check_s3(source.s3)
            if source.s3.endpoint is not None:
                self._check_endpoint(source.s3.endpoint)
        elif not actor.is_operator:
            raise PermissionDeniedError(
                "source.path: only an operator imports from the server's own disk; push the "
                "directory instead."
            )
        elif not (source.path or "").isprintable():
            raise BadRequestError("source.path: this cannot be one.", param="source.path")
        elif self._options.folder is None:
            raise BadRequestError(
                "source.path: the server was started without --import-dir.", param="source.path"
            )

    def _check_endpoint(self, endpoint: str) -> None:
        param = "source.s3.endpoint"
        try:
            url: httpx.URL = self._outbound.check(endpoint)
        except RefusedTargetError as error:
            raise BadRequestError(f"{param}: {error}", param=param) from error
        if url.host not in self._options.hosts or url.path != "/" or url.query or url.fragment:
            raise BadRequestError(
                f"{param}: the operator has not allowed this address (--import-allow-hosts); leave "
                "it out for Amazon's own.",
                param=param,
            )
