"""Owns the route of the live state of engines."""

from litestar import get
from litestar.di import NamedDependency

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.residency.overview import Overview
from loraplex.platform.residency.schemas import EngineLive


@get("/api/v1/engine", operation_id="Engine", tags=["operations"], guards=[requires_adapters])
async def engine_state(
    overview: NamedDependency[Overview], principal: NamedDependency[Principal]
) -> dict[str, EngineLive]:
    """Live state of each engine by base model: everything for operators, a tenant's own adapters for its keys."""
    return await overview.engines(principal)
