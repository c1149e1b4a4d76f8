"""Owns the rules routes declare about who may call them, and how a handler gets its `Principal`."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.errors import NotFoundError, PermissionDeniedError

Connection = ASGIConnection[
    Any, Any, Any, State
]  # Litestar's own generic: user and auth are unused


def principal_of(connection: Connection) -> Principal:
    """The key that sent this request, as the middleware verified it."""
    principal = connection.scope["state"]["principal"]
    assert isinstance(principal, Principal)
    return principal


def provide_principal(request: Request[Any, Any, State]) -> Principal:
    """Dependency `principal`."""
    return principal_of(request)


def requires_operator(connection: Connection, _: BaseRouteHandler) -> None:
    """Only operators."""
    if not principal_of(connection).is_operator:
        raise PermissionDeniedError("This needs an operator's key.")


def requires_adapters(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `adapters:read`; to change something, `adapters:write`."""
    reads = connection.scope.get("method") in ("GET", "HEAD")
    _require(connection, Scope.ADAPTERS_READ if reads else Scope.ADAPTERS_WRITE)


def requires_usage(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `usage`."""
    _require(connection, Scope.USAGE)


def requires_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator, or somebody of a tenant with the scope `admin`."""
    _require(connection, Scope.ADMIN)


def requires_tenant_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """An operator's key, or a key of the tenant in the path with the scope `admin`."""
    principal = principal_of(connection)
    if principal.is_operator:
        return
    tenant = connection.path_params["tenant"]
    if tenant != principal.tenant_name:
        raise NotFoundError(f"There is no tenant {str(tenant)[:63]!r}.")
    _require(connection, Scope.ADMIN)


def _require(connection: Connection, scope: Scope) -> None:
    principal = principal_of(connection)
    if principal.is_operator or scope in principal.scopes:
        return
    if principal.is_user:
        raise PermissionDeniedError("Your role does not allow this; ask an admin of the tenant.")
    raise PermissionDeniedError(f"This key lacks the scope '{scope}'; use one that has it.")
