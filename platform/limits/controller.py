"""Owns the routes of limits."""

from typing import Any

from litestar import Controller, Request, delete, get, put
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath

from loraplex.platform.auth.guards import requires_operator, requires_tenant_admin
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.limits.operations import SetLimitOperation
from loraplex.platform.limits.schemas import LimitOut, LimitSet
from loraplex.platform.limits.service import LimitService
from loraplex.platform.metering.limits import ADAPTER, KEY, TENANT
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.service import TenantService

AnyRequest = Request[Any, Any, State]  # Litestar's own generic


class LimitController(Controller):
    """Operators limit tenants; a tenant's admins see that, and limit its keys and adapters."""

    path = "/api/v1/tenants/{tenant:str}/limits"
    tags = ("limits",)
    guards = (requires_tenant_admin, refuse_nul)

    @get(operation_id="GetTenantLimit")
    async def get_tenant(
        self,
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of a tenant, and where it stands."""
        owner = await tenants.get(tenant)
        return LimitOut.of(TENANT, tenant, *await limits.get(principal, owner.id, TENANT, tenant))

    @put(
        operation_id="SetTenantLimit",
        operation_class=SetLimitOperation,
        guards=[requires_operator],
    )
    async def put_tenant(
        self,
        request: AnyRequest,
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of a tenant."""
        data = decode_body(await request.body(), LimitSet).limits()
        owner = await tenants.get(tenant)
        await limits.put(principal, owner.id, TENANT, tenant, data)
        return LimitOut.of(TENANT, tenant, *await limits.get(principal, owner.id, TENANT, tenant))

    @delete(operation_id="ClearTenantLimit", guards=[requires_operator])
    async def clear_tenant(
        self,
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of a tenant."""
        await limits.clear(principal, (await tenants.get(tenant)).id, TENANT, tenant)

    @get("/keys/{key_id:str}", operation_id="GetKeyLimit")
    async def get_key(
        self,
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of a key, and where it stands."""
        owner = await tenants.get(tenant)
        return LimitOut.of(KEY, key_id, *await limits.get(principal, owner.id, KEY, key_id))

    @put("/keys/{key_id:str}", operation_id="SetKeyLimit", operation_class=SetLimitOperation)
    async def put_key(
        self,
        request: AnyRequest,
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of a key."""
        data = decode_body(await request.body(), LimitSet).limits()
        owner = await tenants.get(tenant)
        await limits.put(principal, owner.id, KEY, key_id, data)
        return LimitOut.of(KEY, key_id, *await limits.get(principal, owner.id, KEY, key_id))

    @delete("/keys/{key_id:str}", operation_id="ClearKeyLimit")
    async def clear_key(
        self,
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of a key."""
        await limits.clear(principal, (await tenants.get(tenant)).id, KEY, key_id)

    @get("/adapters/{name:str}", operation_id="GetAdapterLimit")
    async def get_adapter(
        self,
        tenant: FromPath[str],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of an adapter, and where it stands."""
        owner = await tenants.get(tenant)
        return LimitOut.of(ADAPTER, name, *await limits.get(principal, owner.id, ADAPTER, name))

    @put("/adapters/{name:str}", operation_id="SetAdapterLimit", operation_class=SetLimitOperation)
    async def put_adapter(
        self,
        request: AnyRequest,
        tenant: FromPath[str],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of an adapter."""
        data = decode_body(await request.body(), LimitSet).limits()
        owner = await tenants.get(tenant)
        await limits.put(principal, owner.id, ADAPTER, name, data)
        return LimitOut.of(ADAPTER, name, *await limits.get(principal, owner.id, ADAPTER, name))

    @delete("/adapters/{name:str}", operation_id="ClearAdapterLimit")
    async def clear_adapter(
        self,
        tenant: FromPath[str],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of an adapter."""
        await limits.clear(principal, (await tenants.get(tenant)).id, ADAPTER, name)
