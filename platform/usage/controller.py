"""Owns the route of usage."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from loraplex.platform.auth.guards import requires_usage
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import TenantQuery, owner_if_any
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.scope import whose
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings
from loraplex.platform.spreadsheet import CSV, CsvOperation, Format, FormatQuery, csv_file
from loraplex.platform.tenants.service import TenantService
from loraplex.platform.usage.schemas import UsageList, UsageOut
from loraplex.platform.usage.service import Usage
from loraplex.platform.usage.sums import Group, Line, Wanted, Width
from loraplex.platform.usage.tokens import read_token, write_token
from loraplex.platform.usage.window import window

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Groups = Annotated[
    list[Group] | None,
    QueryParameter(name="group_by", description="what has lines of its own; repeat it"),
]
WidthQuery = Annotated[Width, QueryParameter(name="bucket_width")]
Start = Annotated[datetime | None, QueryParameter(name="start", description="from then on")]
End = Annotated[datetime | None, QueryParameter(name="end", description="before then")]


class UsageController(Controller):
    """What was used. A tenant sees its own; operators see all, or with `?tenant=NAME` one's."""

    path = "/api/v1/usage"
    tags = ("usage",)
    guards = (requires_usage, refuse_nul)

    @get(operation_id="ListUsage", operation_class=CsvOperation)
    async def list_usage(
        self,
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        usage: NamedDependency[Usage],
        settings: NamedDependency[Settings],
        of_tenant: TenantQuery = None,
        bucket_width: WidthQuery = Width.DAY,
        start: Start = None,
        end: End = None,
        groups: Groups = None,
        key: FromQuery[str | None] = None,
        adapter: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
        form: FormatQuery = Format.JSON,
    ) -> Response[UsageList]:
        """Sums of requests, tokens and costs in buckets of time, oldest first."""
        owner = whose(await owner_if_any(principal, tenants, of_tenant))
        by = _ordered(groups or [])
        time = window(bucket_width, start, end, utc_now())
        wanted = Wanted(
            whose=owner,
            width=bucket_width,
            start=time.start,
            end=time.end,
            by=by,
            keys=None if key is None else frozenset({key}),
            adapter=adapter,
            models=principal.adapters,
            after=None if after is None else read_token(after, by),
        )
        shown = _Shown(usage, settings.currency)
        if form is Format.JSON:
            lines = await usage.lines(wanted, limit)
            following = write_token(lines[-1].place) if len(lines) == limit else None
            return Response(UsageList(await shown.of(wanted, lines), following))
        columns = [name for name in UsageOut.__struct_fields__ if name not in set(Group) - {*by}]
        return Stream(  # type: ignore[return-value]  # documented in CsvOperation
            csv_file(columns, shown.pages(wanted)),
            media_type=CSV,
            headers={"content-disposition": 'attachment; filename="usage.csv"'},
        )


class _Shown:
    """Lines as they are shown, tenants by name."""

    def __init__(self, usage: Usage, currency: str) -> None:
        self._usage = usage
        self._currency = currency

    async def of(self, wanted: Wanted, lines: list[Line]) -> list[UsageOut]:
        names: dict[UUID, str] = {}
        if Group.TENANT in wanted.by:
            place = wanted.by.index(Group.TENANT)
            names = await self._usage.names(UUID(str(line.place.values[place])) for line in lines)
        return [UsageOut.of(line, wanted.by, wanted.width, names, self._currency) for line in lines]

    async def pages(self, wanted: Wanted) -> AsyncGenerator[list[UsageOut]]:
        async for lines in self._usage.pages(wanted):
            yield await self.of(wanted, lines)


def _ordered(groups: list[Group]) -> tuple[Group, ...]:
    """Each once; a version means nothing without its adapter."""
    chosen = {*groups, Group.ADAPTER} if Group.VERSION in groups else {*groups}
    return tuple(group for group in Group if group in chosen)
