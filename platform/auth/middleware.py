"""Owns the gate before every route: a request is authenticated, and refused if its key may not use
that part of the API, before a byte of its body is read."""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as ASGIScope

from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.auth.service import Authenticator
from loraplex.platform.error_responses import is_openai_path
from loraplex.platform.errors import NotFoundError, PermissionDeniedError


class AuthMiddleware(ASGIMiddleware):
    """Puts the `Principal` into the request's state. Handlers with `opt={"public": True}` are open to all."""

    scopes = (ScopeType.HTTP, ScopeType.ASGI)
    exclude_opt_key = "public"

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(
        self, scope: ASGIScope, receive: Receive, send: Send, next_app: ASGIApp
    ) -> None:
        """Authenticate, check, pass on."""
        header = next((v for k, v in scope["headers"] if k == b"authorization"), None)
        principal = await self._authenticator.authenticate(
            None if header is None else header.decode("latin-1")
        )
        if is_openai_path(scope["path"]):
            _check_data_plane(principal, scope["path_params"].get("tenant"))
        scope["state"]["principal"] = principal
        await next_app(scope, receive, send)


def _check_data_plane(principal: Principal, tenant: object) -> None:
    # `/t/{tenant}/v1`: nobody but the tenant itself learns whether it exists.
    if tenant is not None and tenant != principal.tenant_name:
        raise NotFoundError("There is no such tenant, or your key is not one of its keys.")
    if principal.is_operator:
        raise PermissionDeniedError(
            "An operator's key manages and runs no models; use a tenant's key here."
        )
    if Scope.INFERENCE not in principal.scopes:
        raise PermissionDeniedError("This key lacks the scope 'inference'; use one that has it.")
