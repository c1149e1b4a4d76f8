"""Owns the routes of limits."""

from typing import Any

from litestar import Controller, Request, delete, get, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from loraplex.platform.auth.guards import requires_operator, requires_tenant_limits
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.limits.operations import SetLimitOperation
from loraplex.platform.limits.schemas import LimitOut, LimitSet
from loraplex.platform.limits.service import Limited, LimitService
from loraplex.platform.metering.limits import ADAPTER, KEY, TENANT
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.service import TenantService

AnyRequest = Request[Any, Any, State]  # Litestar's own generic


async def provide_tenant(tenant: FromPath[str], tenants: NamedDependency[TenantService]) -> Limited:
    """Dependency `limited` of limits of a tenant."""
    return Limited((await tenants.get(tenant)).id, TENANT, tenant)


async def provide_key(
    tenant: FromPath[str], key_id: FromPath[str], tenants: NamedDependency[TenantService]
) -> Limited:
    """Dependency `limited` of limits of a key."""
    return Limited((await tenants.get(tenant)).id, KEY, key_id)


async def provide_adapter(
    tenant: FromPath[str], name: FromPath[str], tenants: NamedDependency[TenantService]
) -> Limited:
    """Dependency `limited` of limits of an adapter."""
    return Limited((await tenants.get(tenant)).id, ADAPTER, name)


OF_TENANT = {"limited": Provide(provide_tenant)}
OF_KEY = {"limited": Provide(provide_key)}
OF_ADAPTER = {"limited": Provide(provide_adapter)}


class LimitController(Controller):
    """Operators limit tenants; a tenant's admins limit its keys and adapters; who may see its usage sees all that."""

    path = "/api/v1/tenants/{tenant:str}/limits"
    tags = ("limits",)
    guards = (requires_tenant_limits, refuse_nul)

    @get(operation_id="GetTenantLimit", dependencies=OF_TENANT)
    async def get_tenant(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of a tenant, and where it stands."""
        return LimitOut.of(limited, *await limits.get(principal, limited))

    @put(
        operation_id="SetTenantLimit",
        operation_class=SetLimitOperation,
        dependencies=OF_TENANT,
        guards=[requires_operator],
    )
    async def put_tenant(
        self,
        request: AnyRequest,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of a tenant."""
        return await _put(request, limited, principal, limits)

    @delete(operation_id="ClearTenantLimit", dependencies=OF_TENANT, guards=[requires_operator])
    async def clear_tenant(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of a tenant."""
        await limits.clear(principal, limited)

    @get("/keys/{key_id:str}", operation_id="GetKeyLimit", dependencies=OF_KEY)
    async def get_key(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of a key, and where it stands."""
        return LimitOut.of(limited, *await limits.get(principal, limited))

    @put(
        "/keys/{key_id:str}",
        operation_id="SetKeyLimit",
        operation_class=SetLimitOperation,
        dependencies=OF_KEY,
    )
    async def put_key(
        self,
        request: AnyRequest,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of a key."""
        return await _put(request, limited, principal, limits)

    @delete("/keys/{key_id:str}", operation_id="ClearKeyLimit", dependencies=OF_KEY)
    async def clear_key(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of a key."""
        await limits.clear(principal, limited)

    @get("/adapters/{name:str}", operation_id="GetAdapterLimit", dependencies=OF_ADAPTER)
    async def get_adapter(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """The limits of an adapter, and where it stands."""
        return LimitOut.of(limited, *await limits.get(principal, limited))

    @put(
        "/adapters/{name:str}",
        operation_id="SetAdapterLimit",
        operation_class=SetLimitOperation,
        dependencies=OF_ADAPTER,
    )
    async def put_adapter(
        self,
        request: AnyRequest,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> LimitOut:
        """Replace the limits of an adapter."""
        return await _put(request, limited, principal, limits)

    @delete("/adapters/{name:str}", operation_id="ClearAdapterLimit", dependencies=OF_ADAPTER)
    async def clear_adapter(
        self,
        limited: NamedDependency[Limited],
        principal: NamedDependency[Principal],
        limits: NamedDependency[LimitService],
    ) -> None:
        """Remove the limits of an adapter."""
        await limits.clear(principal, limited)


async def _put(
    request: AnyRequest, limited: Limited, principal: Principal, limits: LimitService
) -> LimitOut:
    wanted = decode_body(await request.body(), LimitSet).limits()
    return LimitOut.of(limited, *await limits.put(principal, limited, wanted))
