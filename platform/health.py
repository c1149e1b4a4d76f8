"""Owns the routes that say how the service is: `/health` (this process), `/ready` (engines and
database), `/metrics`."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from loraplex.platform.auth.guards import requires_operator
from loraplex.platform.db.database import Database
from loraplex.platform.db.migrate import is_current
from loraplex.platform.drain import Drain
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.metrics import Metrics
from loraplex.platform.residency.names import Names


class Health(Struct):
    """The process answers."""

    status: str


class Readiness(Struct):
    """Whether requests can be served: `engines` are up, the `database` has this release's schema, and this process is
    not `draining`: ending, and only finishing what it has begun."""

    ready: bool
    engines: bool
    database: bool
    draining: bool


@get("/health", operation_id="Health", tags=["operations"], opt={"public": True})
async def health() -> Health:
    """This process answers; says nothing about engines."""
    return Health("ok")


@get("/ready", operation_id="Ready", tags=["operations"], opt={"public": True})
async def ready(
    engines: NamedDependency[EngineDirectory],
    database: NamedDependency[Database],
    drain: NamedDependency[Drain],
) -> Response[Readiness]:
    """200 when requests can be served, else 503."""
    state = Readiness(False, engines.ready(), await is_current(database), drain.draining)
    state.ready = state.engines and state.database and not state.draining
    return Response(state, status_code=200 if state.ready else 503)


@get(
    "/metrics",
    operation_id="Metrics",
    tags=["operations"],
    guards=[requires_operator],
    media_type="text/plain; version=0.0.4",
)
async def metrics(
    metrics: NamedDependency[Metrics],
    engines: NamedDependency[EngineDirectory],
    names: NamedDependency[Names],
) -> bytes:
    """Counters of all API workers and engines, in Prometheus' text format."""
    described = await engines.describe()
    named = [s.identity for d in described.values() for s in d.adapters if s.series is not None]
    return metrics.render(described, await names.of(named))
