"""Owns the routes of tenants."""

from typing import Annotated, Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_operator, requires_tenant_admin
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.operations import ChangeTenantOperation, CreateTenantOperation
from loraplex.platform.tenants.removal import TenantRemovals
from loraplex.platform.tenants.schemas import TenantChange, TenantCreate, TenantList, TenantOut
from loraplex.platform.tenants.service import TenantService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Confirm = Annotated[
    str,
    QueryParameter(description="the tenant's name once more: what is deleted does not come back"),
]


class TenantController(Controller):
    """Operators make, change and delete tenants; a tenant's admins see their own."""

    path = "/api/v1/tenants"
    tags = ("tenants",)
    guards = (refuse_nul,)

    @post(
        operation_id="CreateTenant",
        operation_class=CreateTenantOperation,
        guards=[requires_operator],
    )
    async def create(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
    ) -> TenantOut:
        """Make a tenant."""
        data = decode_body(await request.body(), TenantCreate)
        return TenantOut.of(await tenants.create(principal, data.name))

    @get(operation_id="ListTenants", guards=[requires_operator])
    async def list_tenants(
        self,
        tenants: NamedDependency[TenantService],
        after: FromQuery[str] = "",
        limit: Limit = 100,
    ) -> TenantList:
        """Tenants by name."""
        rows = await tenants.list(after, limit)
        following = rows[-1].name if len(rows) == limit else None
        return TenantList([TenantOut.of(row) for row in rows], following)

    @get("/{tenant:str}", operation_id="GetTenant", guards=[requires_tenant_admin])
    async def get_tenant(
        self, tenant: FromPath[str], tenants: NamedDependency[TenantService]
    ) -> TenantOut:
        """One tenant."""
        return TenantOut.of(await tenants.get(tenant))

    @patch(
        "/{tenant:str}",
        operation_id="ChangeTenant",
        operation_class=ChangeTenantOperation,
        guards=[requires_tenant_admin, requires_operator],
    )
    async def change(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
    ) -> TenantOut:
        """Change a tenant's share of the engines, its storage, or how long its ledger is kept."""
        data = decode_body(await request.body(), TenantChange)
        return TenantOut.of(await tenants.change(principal, tenant, data))

    @delete(
        "/{tenant:str}",
        operation_id="DeleteTenant",
        guards=[requires_tenant_admin, requires_operator],
    )
    async def remove(
        self,
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        tenant_removals: NamedDependency[TenantRemovals],
        confirm: Confirm = "",
    ) -> None:
        """Delete a tenant with everything it has; its ledger and its audit trail stay."""
        owner = await tenants.get(tenant)
        if confirm != owner.name:
            raise BadRequestError(
                f"confirm: say {owner.name!r} again to delete this tenant with all it has.",
                param="confirm",
            )
        await tenant_removals.delete(principal, owner.id)
