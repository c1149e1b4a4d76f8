"""Owns the routes of keys: a tenant's, and operators'."""

from datetime import timedelta
from typing import Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from loraplex.platform.auth.guards import requires_operator, requires_tenant_admin
from loraplex.platform.auth.key_service import KeyService, NewKeyTerms
from loraplex.platform.auth.principal import ADAPTERS, DEFAULT_SCOPES, Principal, Scope, read_scopes
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.key_operations import (
    ChangeKeyOperation,
    CreateKeyOperation,
    CreateOperatorKeyOperation,
    RotateKeyOperation,
)
from loraplex.platform.tenants.key_schemas import (
    KeyChange,
    KeyCreate,
    KeyList,
    KeyOut,
    KeyRotate,
    OperatorKeyCreate,
)
from loraplex.platform.tenants.service import TenantService


class KeyController(Controller):
    """Operators and a tenant's admins make, change, replace and end its keys."""

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
        terms = NewKeyTerms(
            data.name,
            DEFAULT_SCOPES if data.scopes is None else _scopes(data.scopes),
            None if data.adapters is None else frozenset(data.adapters),
            data.expires_at,
        )
        key, token = await keys.create(principal, owner.id, terms)
        return KeyOut.of(key, owner.name, token)

    @get(operation_id="ListKeys")
    async def list_keys(
        self,
        tenant: FromPath[str],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyList:
        """Every key of the tenant, those that ended included."""
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

    @patch("/{key_id:str}", operation_id="ChangeKey", operation_class=ChangeKeyOperation)
    async def change(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyOut:
        """Change a key's name, adapters or end."""
        data = decode_body(await request.body(), KeyChange)
        owner = await tenants.get(tenant)
        adapters: frozenset[str] | UnsetType | None = UNSET
        if data.adapters is not UNSET:
            adapters = None if data.adapters is None else frozenset(data.adapters)
        key = await keys.change(principal, owner.id, key_id, data.name, adapters, data.expires_at)
        return KeyOut.of(key, owner.name)

    @post("/{key_id:str}/rotate", operation_id="RotateKey", operation_class=RotateKeyOperation)
    async def rotate(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        keys: NamedDependency[KeyService],
    ) -> KeyOut:
        """Replace a key. The answer is the new one, with its secret; the old one goes on for the overlap."""
        data = decode_body(await request.body() or b"{}", KeyRotate)
        owner = await tenants.get(tenant)
        overlap = timedelta(seconds=data.overlap_seconds)
        key, token = await keys.rotate(principal, owner.id, key_id, overlap)
        return KeyOut.of(key, owner.name, token)

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


class OperatorKeyController(Controller):
    """Operators make and end operators' keys, which manage every tenant and run no models."""

    path = "/api/v1/operator/keys"
    tags = ("keys",)
    guards = (requires_operator, refuse_nul)

    @post(operation_id="CreateOperatorKey", operation_class=CreateOperatorKeyOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        keys: NamedDependency[KeyService],
    ) -> KeyOut:
        """Make an operators' key. Its secret is in this answer and nowhere else."""
        data = decode_body(await request.body(), OperatorKeyCreate)
        terms = NewKeyTerms(data.name, expires_at=data.expires_at)
        key, token = await keys.create(principal, None, terms)
        return KeyOut.of(key, None, token)

    @get(operation_id="ListOperatorKeys")
    async def list_keys(self, keys: NamedDependency[KeyService]) -> KeyList:
        """Every operators' key, those that ended included."""
        return KeyList([KeyOut.of(key, None) for key in await keys.list(None)])

    @get("/{key_id:str}", operation_id="GetOperatorKey")
    async def get_key(self, key_id: FromPath[str], keys: NamedDependency[KeyService]) -> KeyOut:
        """One operators' key."""
        return KeyOut.of(await keys.get(None, key_id), None)

    @delete("/{key_id:str}", operation_id="RevokeOperatorKey")
    async def revoke(
        self,
        key_id: FromPath[str],
        principal: NamedDependency[Principal],
        keys: NamedDependency[KeyService],
    ) -> None:
        """End an operators' key, unless it is the last one that can be used."""
        await keys.revoke(principal, None, key_id)


def _scopes(names: list[str]) -> frozenset[Scope]:
    try:
        return read_scopes(names)
    except ValueError as error:
        known = ", ".join([*Scope, ADAPTERS])
        raise BadRequestError(f"scopes: there are {known}.", param="scopes") from error
