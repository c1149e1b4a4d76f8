"""Owns the route of live state as a stream of events."""

from functools import partial
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.event_stream import MEDIA_TYPE
from loraplex.platform.events.feed import Feed, Watch
from loraplex.platform.events.schemas import LiveEvent
from loraplex.platform.events.standing import Standing
from loraplex.platform.events.stream import LiveResponse


@get(
    "/api/v1/events",
    operation_id="Events",
    tags=["operations"],
    guards=[requires_adapters],
    media_type=MEDIA_TYPE,
)
async def events(
    request: Request[Any, Any, State],
    feed: NamedDependency[Feed],
    standing: NamedDependency[Standing],
    principal: NamedDependency[Principal],
) -> Response[LiveEvent]:
    """Live state once a second: everything for operators, what is its own for a tenant."""
    usage = principal.is_operator or Scope.USAGE in principal.scopes
    watch = Watch(principal.viewer, principal.adapters, usage)
    listener = await feed.join(watch, principal.actor_id)
    return LiveResponse(feed, listener, partial(standing.holds, request.scope, principal))
