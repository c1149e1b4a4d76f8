"""Owns the route of the ledger."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_usage
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import TenantQuery, provide_owner
from loraplex.platform.ledger.schemas import RequestList
from loraplex.platform.ledger.service import Ledger
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.service import TenantService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


class LedgerController(Controller):
    """What was served. A tenant sees its own; operators see all, or with `?tenant=NAME` one's."""

    path = "/api/v1/requests"
    tags = ("requests",)
    guards = (requires_usage, refuse_nul)

    @get(operation_id="ListRequests")
    async def list_requests(
        self,
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        ledger: NamedDependency[Ledger],
        of_tenant: TenantQuery = None,
        adapter: FromQuery[str | None] = None,
        answer: FromQuery[str | None] = None,
        before: FromQuery[UUID | None] = None,
        limit: Limit = 100,
    ) -> RequestList:
        """Answers, those that ended last first: of one adapter, or with one id."""
        owner = None
        if not principal.is_operator or of_tenant is not None:
            owner = await provide_owner(principal, tenants, of_tenant)
        return await ledger.page(
            principal.tenant_id,
            owner,
            adapter=adapter,
            answer_id=answer,
            before=before,
            limit=limit,
        )
