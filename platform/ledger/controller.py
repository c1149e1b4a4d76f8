"""Owns the routes of the ledger."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from loraplex.platform.auth.guards import requires_usage
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import TenantQuery, owner_if_any
from loraplex.platform.ledger.schemas import RequestList, RequestOut
from loraplex.platform.ledger.service import Ledger
from loraplex.platform.ledger.wanted import State, Wanted
from loraplex.platform.moments import in_utc
from loraplex.platform.nul import refuse_nul
from loraplex.platform.spreadsheet import CSV, CsvOperation, Format, FormatQuery, csv_file
from loraplex.platform.tenants.service import TenantService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Slower = Annotated[
    float | None, QueryParameter(ge=0, description="took longer, in all, than so many milliseconds")
]
Since = Annotated[datetime | None, QueryParameter(name="since", description="begun from then on")]
Until = Annotated[datetime | None, QueryParameter(name="until", description="begun before then")]


class LedgerController(Controller):
    """What was served. A tenant sees its own; operators see all, or with `?tenant=NAME` one's."""

    path = "/api/v1/requests"
    tags = ("requests",)
    guards = (requires_usage, refuse_nul)

    @get(operation_id="ListRequests", operation_class=CsvOperation)
    async def list_requests(
        self,
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        ledger: NamedDependency[Ledger],
        of_tenant: TenantQuery = None,
        adapter: FromQuery[str | None] = None,
        key: FromQuery[str | None] = None,
        answer: FromQuery[str | None] = None,
        # Not `state`: so Litestar calls the app's own.
        request_state: Annotated[State | None, QueryParameter(name="state")] = None,
        finish_reason: FromQuery[str | None] = None,
        endpoint: FromQuery[str | None] = None,
        slower_than_ms: Slower = None,
        since: Since = None,
        until: Until = None,
        before: FromQuery[UUID | None] = None,
        limit: Limit = 100,
        form: FormatQuery = Format.JSON,
    ) -> Response[RequestList]:
        """Requests, newest first, those that run included."""
        wanted = Wanted(
            tenant_id=await owner_if_any(principal, tenants, of_tenant),
            adapter=adapter,
            key=key,
            answer_id=answer,
            state=request_state,
            finish_reason=finish_reason,
            endpoint=endpoint,
            slower_than_ms=slower_than_ms,
            since=in_utc(since, "since"),
            until=in_utc(until, "until"),
            names=principal.adapters,
            before=before,
        )
        if form is Format.JSON:
            return Response(await ledger.page(wanted, principal.viewer, limit))
        return Stream(  # type: ignore[return-value]  # documented in CsvOperation
            csv_file(RequestOut.__struct_fields__, ledger.all(wanted, principal.viewer)),
            media_type=CSV,
            headers={"content-disposition": 'attachment; filename="requests.csv"'},
        )

    @get("/{request_id:str}", operation_id="GetRequest")
    async def get_request(
        self,
        principal: NamedDependency[Principal],
        ledger: NamedDependency[Ledger],
        request_id: FromPath[str],
    ) -> RequestOut:
        """One request, by the id of its row."""
        return await ledger.get(principal, request_id)
