"""Owns the routes of tenants and their keys."""

from typing import Annotated, Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_operator, requires_tenant_admin
from loraplex.platform.auth.principal import ADAPTERS, DEFAULT_SCOPES, Principal, Scope, read_scopes
from loraplex.platform.auth.service import KeyService
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.operations import (
    ChangeTenantOperation,
    CreateKeyOperation,
    CreateTenantOperation,
)
from loraplex.platform.tenants.schemas import (
    KeyCreate,
    KeyList,
    KeyOut,
    TenantChange,
    TenantCreate,
    TenantList,
    TenantOut,
)
from loraplex.platform.tenants.service import TenantService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


class TenantController(Controller):
    """Operators make and change tenants."""

    path = "/api/v1/tenants"
    tags = ("tenants",)
    guards = (requires_operator, refuse_nul)

    @post(operation_id="CreateTenant", operation_class=CreateTenantOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
    ) -> TenantOut:
        """Make a tenant."""
        data = decode_body(await request.body(), TenantCreate)
        return TenantOut.of(await tenants.create(principal, data.name))

    @get(operation_id="ListTenants")
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

    @patch("/{tenant:str}", operation_id="ChangeTenant", operation_class=ChangeTenantOperation)
    async def change(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
    ) -> TenantOut:
        """Change a tenant's share of the engines."""
        data = decode_body(await request.body(), TenantChange)
        return TenantOut.of(await tenants.change(principal, tenant, data.weight, data.max_running))


class KeyController(Controller):
    """Operators and a tenant's admins make and revoke its keys."""

    path = "/api/v1/tenants/{tenant:str}/keys"
    tags = ("keys",)
    guards = (requires_tenant_admin, refuse_nul)

    @post(operation_id="CreateKey", operation_class=CreateKeyOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyOut:
        """Make a key. Its secret is in this answer and nowhere else."""
        data = decode_body(await request.body(), KeyCreate)
        owner = await tenants.get(tenant)
        scopes = DEFAULT_SCOPES if data.scopes is None else _scopes(data.scopes)
        key, token = await keys.create(principal, owner.id, data.name, scopes)
        return KeyOut.of(key, owner.name, token)

    @get(operation_id="ListKeys")
    async def list_keys(
        self,
        tenant: FromPath[str],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyList:
        """Every key of the tenant, revoked ones included."""
        owner = await tenants.get(tenant)
        return KeyList([KeyOut.of(key, owner.name) for key in await keys.list(owner.id)])

    @get("/{key_id:str}", operation_id="GetKey")
    async def get_key(
        self,
        tenant: FromPath[str],
        key_id: FromPath[str],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyOut:
        """One key."""
        owner = await tenants.get(tenant)
        return KeyOut.of(await keys.get(owner.id, key_id), owner.name)

    @delete("/{key_id:str}", operation_id="RevokeKey")
    async def revoke(
        self,
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> None:
        """End a key: at once here, within five seconds everywhere."""
        owner = await tenants.get(tenant)
        await keys.revoke(principal, owner.id, key_id)


def _scopes(names: list[str]) -> frozenset[Scope]:
    try:
        return read_scopes(names)
    except ValueError as error:
        known = ", ".join([*Scope, ADAPTERS])
        raise BadRequestError(f"scopes: there are {known}.", param="scopes") from error
