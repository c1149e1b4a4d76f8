"""Owns the rules routes declare about who may call them, and how a handler gets its `Principal`. Rules are coroutines:
plain functions would each be called in a thread."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.errors import BadRequestError, NotFoundError, PermissionDeniedError

Connection = ASGIConnection[
    Any, Any, Any, State
]  # Litestar's own generic: user and auth are unused


def principal_of(connection: Connection) -> Principal:
    """Who sent this request, as the middleware verified it."""
    principal = connection.scope["state"]["principal"]
    assert isinstance(principal, Principal)
    return principal


def provide_principal(request: Request[Any, Any, State]) -> Principal:
    """Dependency `principal`."""
    return principal_of(request)


async def requires_operator(connection: Connection, _: BaseRouteHandler) -> None:
    """Only operators."""
    if not principal_of(connection).is_operator:
        raise PermissionDeniedError("Only operators may do this.")


async def requires_user(connection: Connection, _: BaseRouteHandler) -> None:
    """Only signed-in users, of whatever tenants."""
    if not principal_of(connection).is_user:
        raise PermissionDeniedError("This is about a signed-in user; a key has no session.")


async def requires_adapters(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `adapters:read`; to change something, `adapters:write`."""
    reads = connection.scope.get("method") in ("GET", "HEAD")
    _require(connection, Scope.ADAPTERS_READ if reads else Scope.ADAPTERS_WRITE)


async def requires_usage(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `usage`."""
    _require(connection, Scope.USAGE)


async def requires_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `admin`."""
    _require(connection, Scope.ADMIN)


async def requires_tenant_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of the tenant in the path with the scope `admin`."""
    _require_tenant(connection)
    _require(connection, Scope.ADMIN)


async def requires_tenant_limits(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of the tenant in the path with the scope `admin`; signed-in users see limits with the
    scope `usage`. Keys do not: every key for inference has that scope."""
    principal = _require_tenant(connection)
    reads = connection.scope.get("method") in ("GET", "HEAD")
    if not (reads and principal.is_user and Scope.USAGE in principal.scopes):
        _require(connection, Scope.ADMIN)


def _require_tenant(connection: Connection) -> Principal:
    """An operator, or somebody of the tenant in the path; others learn nothing of it."""
    principal = principal_of(connection)
    tenant = connection.path_params["tenant"]
    if not principal.is_operator and tenant != principal.tenant_name:
        raise _no_tenant(tenant)
    return principal


def _require(connection: Connection, scope: Scope) -> None:
    principal = principal_of(connection)
    if principal.is_operator or scope in principal.scopes:
        return
    if principal.is_user and principal.tenant_id is None:
        named = connection.query_params.getall("tenant", [])
        if named:
            raise _no_tenant(named[-1])
        raise BadRequestError("Say for which tenant: add ?tenant=NAME.", param="tenant")
    if principal.is_user:
        raise PermissionDeniedError("Your role does not allow this; ask an admin of the tenant.")
    raise PermissionDeniedError(f"This key lacks the scope '{scope}'; use one that has it.")


def _no_tenant(name: object) -> NotFoundError:
    return NotFoundError(f"There is no tenant {str(name)[:63]!r}.")
