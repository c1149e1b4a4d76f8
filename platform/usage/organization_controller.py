"""Owns the routes of usage and costs in OpenAI's shape, each at `/v1/...` and at `/t/{tenant}/v1/...`. Operators see
every tenant, or the one in the path."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter

from loraplex.platform.auth.guards import requires_usage
from loraplex.platform.auth.middleware import SHOWS_USAGE
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.scope import EVERY_TENANT, Whose
from loraplex.platform.errors import BadRequestError
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings
from loraplex.platform.tenants.service import TenantService
from loraplex.platform.usage.operations import OrganizationOperation
from loraplex.platform.usage.organization import Buckets, By, Organization
from loraplex.platform.usage.organization_schemas import CompletionsResult, CostsResult, Page
from loraplex.platform.usage.service import Usage
from loraplex.platform.usage.sums import Wanted, Width

_LAST = 32_503_679_999  # the year 2999
# OpenAI's own: how many buckets unless it is said, and at most.
_BUCKETS = {Width.MINUTE: (60, 1440), Width.HOUR: (24, 168), Width.DAY: (7, 31)}
_COST_BUCKETS = {**_BUCKETS, Width.DAY: (7, 180)}
_PAGE = re.compile(r"page_([0-9]{1,11})")
_LINE_ITEM = "line_item"  # what costs call a model

StartTime = Annotated[int, QueryParameter(ge=0, le=_LAST, description="Unix seconds")]
EndTime = Annotated[int | None, QueryParameter(ge=0, le=_LAST, description="Unix seconds; now")]
Limit = Annotated[int | None, QueryParameter(ge=1, le=1440, description="buckets in a page")]
WidthQuery = Annotated[Width, QueryParameter(description="how long a bucket is")]
PageToken = Annotated[str | None, QueryParameter(description="`next_page` of the page before")]


async def provide_buckets(
    request: Request[Any, Any, State],
    principal: NamedDependency[Principal],
    tenants: NamedDependency[TenantService],
    usage: NamedDependency[Usage],
    start_time: StartTime,
    end_time: EndTime = None,
    bucket_width: WidthQuery = Width.DAY,
    limit: Limit = None,
    page: PageToken = None,
) -> Buckets:
    """Dependency `buckets`: what the query of either route asks for."""
    costs = request.scope["path"].endswith("/costs")
    start = bucket_width.floor(_moment(start_time if page is None else _read_page(page)))
    end = utc_now() if end_time is None else _moment(end_time)
    default, most = (_COST_BUCKETS if costs else _BUCKETS)[bucket_width]
    if limit is not None and limit > most:
        raise BadRequestError(
            f"limit: at most {most} buckets of {bucket_width}.", param="limit", code="invalid_value"
        )
    models = _texts(request, "models")
    if principal.adapters is not None:
        models = principal.adapters if models is None else models & principal.adapters
    keys, users = _texts(request, "api_key_ids"), _texts(request, "user_ids")
    projects = _texts(request, "project_ids")
    wanted = Wanted(
        whose=await _whose(request.path_params, principal, tenants),
        width=bucket_width,
        start=start,
        end=end,
        tenants=None if projects is None else await usage.ids(projects),
        keys=users if keys is None else keys if users is None else keys & users,
        models=models,
    )
    by = _groups(_texts(request, "group_by") or frozenset())
    return await Organization(usage).buckets(wanted, by, limit or default)


class OrganizationController(Controller):
    """What was used and what it cost, as OpenAI's administration API tells it."""

    tags = ("usage",)
    guards = (requires_usage, refuse_nul)
    opt = SHOWS_USAGE
    dependencies = {"buckets": Provide(provide_buckets)}  # noqa: RUF012 - the name and the type are Litestar's

    @get(
        [
            "/v1/organization/usage/completions",
            "/t/{tenant:str}/v1/organization/usage/completions",
        ],
        operation_class=OrganizationOperation,
    )
    async def completions(self, buckets: NamedDependency[Buckets]) -> Page:
        """Tokens and requests in buckets of time."""
        return Page.of(buckets, CompletionsResult.of)

    @get(
        ["/v1/organization/costs", "/t/{tenant:str}/v1/organization/costs"],
        operation_class=OrganizationOperation,
    )
    async def costs(
        self, buckets: NamedDependency[Buckets], settings: NamedDependency[Settings]
    ) -> Page:
        """Money in buckets of time."""
        return Page.of(buckets, partial(CostsResult.of, currency=settings.currency))


async def _whose(path: Mapping[str, Any], principal: Principal, tenants: TenantService) -> Whose:
    if (viewer := principal.viewer) is not None:
        return viewer
    return (await tenants.get(str(path["tenant"]))).id if "tenant" in path else EVERY_TENANT


def _texts(request: Request[Any, Any, State], name: str) -> frozenset[str] | None:
    """A parameter that can be repeated; OpenAI's clients write `[]` behind its name."""
    query = request.query_params
    found = [*query.getall(name, []), *query.getall(f"{name}[]", [])]
    return frozenset(found) if found else None


def _groups(names: frozenset[str]) -> frozenset[By]:
    try:
        return frozenset(By.MODEL if name == _LINE_ITEM else By(name) for name in names)
    except ValueError:
        raise BadRequestError(
            f"group_by: choose from {', '.join(By)}.", param="group_by", code="invalid_value"
        ) from None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _read_page(page: str) -> int:
    found = _PAGE.fullmatch(page)
    if found is None or int(found[1]) > _LAST:
        raise BadRequestError("page: send the 'next_page' of the page before.", param="page")
    return int(found[1])
