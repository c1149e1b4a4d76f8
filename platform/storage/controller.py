"""Owns the routes about stored weights as a whole."""

from uuid import UUID

from litestar import get, post
from litestar.di import NamedDependency, Provide
from litestar.status_codes import HTTP_200_OK

from loraplex.platform.auth.guards import requires_adapters, requires_operator
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.catalog.quota import StorageOut, storage
from loraplex.platform.db.database import Database
from loraplex.platform.nul import refuse_nul
from loraplex.platform.storage.collection import Collected, Collection


@get(
    "/api/v1/storage",
    operation_id="GetStorage",
    tags=["adapters"],
    guards=[requires_adapters, refuse_nul],
    dependencies={"owner": Provide(provide_owner)},
)
async def stored(owner: NamedDependency[UUID], database: NamedDependency[Database]) -> StorageOut:
    """How much the tenant stores, and may."""
    return await storage(database, owner)


@post(
    "/api/v1/gc",
    operation_id="CollectGarbage",
    tags=["operations"],
    guards=[requires_operator],
    status_code=HTTP_200_OK,
)
async def collect(
    principal: NamedDependency[Principal], collection: NamedDependency[Collection]
) -> Collected:
    """Remove now what expired uploads, crashes and time left; it also goes by itself within ten minutes."""
    return await collection.collect_for(principal)
