"""Owns the gate before every route: a request is authenticated, by key or by cookie, and refused if it may not use that
part of the API, before a byte of its body is read."""

from dataclasses import replace
from secrets import compare_digest
from typing import Final
from urllib.parse import parse_qs

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Send
from litestar.types import Scope as ASGIScope

from loraplex.platform.accounts.cookies import SESSION, cookie, read_cookie
from loraplex.platform.accounts.edge import Edge, header
from loraplex.platform.accounts.sessions import Found, Sessions
from loraplex.platform.accounts.signed_in import SignedIn
from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.db.base import utc_now
from loraplex.platform.error_responses import is_anthropic_path, is_openai_path
from loraplex.platform.errors import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
)

# `opt` of routes of the management API that are open to all, and still closed to pages of other sites. Who has a valid
# cookie and the token that goes with it is known to them, see `signed_in_of`.
ANONYMOUS: Final = {"anonymous": True}
# `opt` of routes under `/v1` that run no models but show what was used; their guards say who may see it.
SHOWS_USAGE: Final = {"shows_usage": True}
_COOKIES_UNDER = "/api/v1/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthMiddleware(ASGIMiddleware):
    """Puts the `Principal` into the request's state. Handlers with `opt={"public": True}` are open to all."""

    scopes = (ScopeType.HTTP, ScopeType.ASGI)
    exclude_opt_key = "public"

    def __init__(self, authenticator: Authenticator, sessions: Sessions, edge: Edge) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        self._edge = edge

    async def handle(
        self, scope: ASGIScope, receive: Receive, send: Send, next_app: ASGIApp
    ) -> None:
        """Authenticate, check, pass on."""
        token = self._token(scope)
        if scope["route_handler"].opt.get("anonymous"):
            if scope["method"] not in _SAFE:  # type: ignore[typeddict-item]  # HTTP, by its path
                self._edge.refuse_other_sites(scope)
            found = await self._sessions.find(token) if token else None
            if found is not None and _repeats_token(scope, found.user):
                scope["state"]["signed_in"] = found.user
        elif token:
            send = await self._by_cookie(scope, token, send)
        else:
            await self._by_key(scope)
        await next_app(scope, receive, send)

    def _token(self, scope: ASGIScope) -> str:
        if not scope["path"].startswith(_COOKIES_UNDER):
            return ""
        return read_cookie(scope, SESSION, secure=self._edge.is_secure(scope))

    async def _by_key(self, scope: ASGIScope) -> None:
        principal = await self._authenticator.authenticate(_authorization(scope))
        if is_openai_path(scope["path"]):
            runs_models = not scope["route_handler"].opt.get("shows_usage")
            _check_data_plane(principal, scope["path_params"].get("tenant"), runs_models)
        scope["state"]["principal"] = replace(principal, address=self._edge.address(scope))

    async def _by_cookie(self, scope: ASGIScope, token: str, send: Send) -> Send:
        """Returns what to answer with: a cookie goes along when the session has a new token."""
        if any(name == b"authorization" for name, _ in scope["headers"]):
            raise BadRequestError(
                "This request has a key and the cookie of a session; send one of them.",
                code="two_credentials",
            )
        found = await self._sessions.find(token)
        if found is None:
            raise AuthenticationError("The session is over; sign in again.", code="invalid_session")
        if scope.get("method") not in _SAFE:
            self._edge.refuse_other_sites(scope)
            if not _repeats_token(scope, found.user):
                raise PermissionDeniedError(
                    "The header x-csrf-token is missing or wrong; GET /api/v1/session has its value.",
                    code="wrong_csrf_token",
                )
        scope["state"]["signed_in"] = found.user
        scope["state"]["principal"] = found.user.principal(
            _named_tenant(scope), self._edge.address(scope)
        )
        new = await self._sessions.keep(token, found)
        return send if new is None else self._with_cookie(scope, found, new, send)

    def _with_cookie(self, scope: ASGIScope, found: Found, token: str, send: Send) -> Send:
        left = found.user.expires_at - utc_now()
        seconds = max(0, int(left.total_seconds()))
        renewed = cookie(SESSION, token, seconds, secure=self._edge.is_secure(scope))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {k.lower() for k, _ in message["headers"]}
                # A handler that sets or takes away the cookie itself knows better.
                if b"set-cookie" not in own:
                    message["headers"] = [*message["headers"], renewed.to_encoded_header()]
            await send(message)

        return answer


def _authorization(scope: ASGIScope) -> str | None:
    """What the key comes in: its header, or the one that Anthropic's clients send, on the routes made for them."""
    sent = next((v for k, v in scope["headers"] if k == b"authorization"), None)
    authorization = None if sent is None else sent.decode("latin-1")
    key = header(scope, b"x-api-key") if is_anthropic_path(scope["path"]) else ""
    if not key:
        return authorization
    if authorization not in (None, f"Bearer {key}"):
        raise BadRequestError(
            "The headers authorization and x-api-key of this request differ; send one of them.",
            code="two_credentials",
        )
    return f"Bearer {key}"


def signed_in_of(scope: ASGIScope) -> SignedIn | None:
    """Whose session a request belongs to, None if to none."""
    signed_in = scope["state"].get("signed_in")
    assert signed_in is None or isinstance(signed_in, SignedIn)
    return signed_in


def _repeats_token(scope: ASGIScope, user: SignedIn) -> bool:
    sent = header(scope, b"x-csrf-token").encode("latin-1")
    return compare_digest(sent, user.csrf_token.encode())


def _named_tenant(scope: ASGIScope) -> str | None:
    """The tenant in the path, else in the query."""
    in_path = scope["path_params"].get("tenant")
    if in_path is not None:
        return str(in_path)
    named = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("tenant")
    return named[-1] if named else None


def _check_data_plane(principal: Principal, tenant: object, runs_models: bool) -> None:
    if principal.is_operator and not runs_models:
        return
    # `/t/{tenant}/v1`: nobody but the tenant itself learns whether it exists.
    if tenant is not None and tenant != principal.tenant_name:
        raise NotFoundError("There is no such tenant, or your key is not one of its keys.")
    if not runs_models:
        return
    if principal.is_operator:
        raise PermissionDeniedError(
            "An operator's key manages and runs no models; use a tenant's key here."
        )
    if Scope.INFERENCE not in principal.scopes:
        raise PermissionDeniedError("This key lacks the scope 'inference'; use one that has it.")
