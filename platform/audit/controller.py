"""Owns the route of the audit trail. There is none that changes it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from loraplex.platform.audit.export import MEDIA_TYPES, TrailFormat, exported
from loraplex.platform.audit.operations import ListAuditOperation
from loraplex.platform.audit.schemas import AuditList
from loraplex.platform.audit.trail import AuditTrail, Wanted
from loraplex.platform.auth.guards import requires_admin
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import TenantQuery, owner_if_any
from loraplex.platform.moments import in_utc
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.service import TenantService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
ActionQuery = Annotated[
    str | None, QueryParameter(name="action", description="the beginning of an action")
]
Since = Annotated[datetime | None, QueryParameter(name="since", description="from then on")]
Until = Annotated[datetime | None, QueryParameter(name="until", description="before then")]
FormatQuery = Annotated[
    TrailFormat,
    QueryParameter(name="format", description="json: a page; jsonl and csv: everything, as a file"),
]


class AuditController(Controller):
    """Who changed what. A tenant's admins see its own entries; operators all, or with `?tenant=NAME` one's."""

    path = "/api/v1/audit"
    tags = ("audit",)
    guards = (requires_admin, refuse_nul)

    @get(operation_id="ListAudit", operation_class=ListAuditOperation)
    async def list_audit(
        self,
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        audit: NamedDependency[AuditTrail],
        of_tenant: TenantQuery = None,
        actor: FromQuery[str | None] = None,
        action: ActionQuery = None,
        target: FromQuery[str | None] = None,
        since: Since = None,
        until: Until = None,
        before: FromQuery[UUID | None] = None,
        limit: Limit = 100,
        form: FormatQuery = TrailFormat.JSON,
    ) -> Response[AuditList]:
        """Changes, newest first."""
        wanted = Wanted(
            tenant_id=await owner_if_any(principal, tenants, of_tenant),
            actor=actor,
            action=action,
            target=target,
            since=in_utc(since, "since"),
            until=in_utc(until, "until"),
            before=before,
        )
        if form is TrailFormat.JSON:
            return Response(await audit.page(wanted, principal.viewer, limit))
        return Stream(  # type: ignore[return-value]  # documented in ListAuditOperation
            exported(audit.all(wanted, principal.viewer), form),
            media_type=MEDIA_TYPES[form],
            headers={"content-disposition": f'attachment; filename="audit.{form}"'},
        )
