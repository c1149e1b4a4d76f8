"""Owns the route that begins imports."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.status_codes import HTTP_202_ACCEPTED

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.imports.operations import ImportOperation
from loraplex.platform.imports.schemas import ImportCreate
from loraplex.platform.imports.service import ImportService
from loraplex.platform.jobs.schemas import JobOut
from loraplex.platform.nul import refuse_nul


class ImportController(Controller):
    """Adapters from where they were trained."""

    path = "/api/v1/imports"
    tags = ("imports",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @post(
        operation_id="ImportAdapter",
        operation_class=ImportOperation,
        status_code=HTTP_202_ACCEPTED,
    )
    async def begin(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        principal: NamedDependency[Principal],
        imports: NamedDependency[ImportService],
    ) -> JobOut:
        """Begin to import an adapter; the answer is the job that does it."""
        wish = decode_body(await request.body(), ImportCreate)
        return JobOut.of(await imports.open(principal, owner, wish))
