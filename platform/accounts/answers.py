"""Owns what handlers of sign-in share: who visits, who is signed in, and the answer that brings a session's cookie."""

from typing import Any

from litestar import Request, Response
from litestar.datastructures import Cookie, State
from litestar.di import NamedDependency
from litestar.types import Scope

from loraplex.platform.accounts.cookies import SESSION, cookie, read_cookie
from loraplex.platform.accounts.edge import Edge, header
from loraplex.platform.accounts.schemas import SessionOut
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import NewSession, Visitor
from loraplex.platform.accounts.signed_in import SignedIn
from loraplex.platform.auth.guards import principal_of
from loraplex.platform.auth.middleware import signed_in_of

# What carries a secret is kept by no cache on its way.
NO_STORE = {"cache-control": "no-store"}


def provide_visitor(request: Request[Any, Any, State], edge: NamedDependency[Edge]) -> Visitor:
    """Dependency `visitor`.

    Raises:
        PermissionDeniedError: passwords would travel in clear.
    """
    edge.require_private(request.scope)
    return Visitor(
        address=edge.address(request.scope),
        user_agent=header(request.scope, b"user-agent"),
        token=read_cookie(request.scope, SESSION, secure=edge.is_secure(request.scope)),
    )


def provide_signed_in(request: Request[Any, Any, State]) -> SignedIn:
    """Dependency `signed_in`, for routes with the guard `requires_user`."""
    signed_in = signed_in_of(request.scope)
    assert signed_in is not None, principal_of(request)
    return signed_in


async def session_answer(
    request: Request[Any, Any, State],
    edge: Edge,
    sessions: Sessions,
    opened: NewSession,
) -> Response[SessionOut]:
    """Who is signed in now, with the cookie."""
    found = await sessions.find(opened.token)
    assert found is not None
    return Response(
        SessionOut.of(found.user),
        headers=NO_STORE,
        cookies=[opened_cookie(request.scope, edge, opened)],
    )


def opened_cookie(scope: Scope, edge: Edge, opened: NewSession) -> Cookie:
    """What carries a new session."""
    lifetime = opened.row.expires_at - opened.row.created_at
    seconds = int(lifetime.total_seconds())
    return cookie(SESSION, opened.token, seconds, secure=edge.is_secure(scope))


def without_cookie(request: Request[Any, Any, State], edge: Edge) -> Response[None]:
    """204, and the browser forgets its cookie."""
    gone = cookie(SESSION, "", 0, secure=edge.is_secure(request.scope))
    return Response(None, status_code=204, headers=NO_STORE, cookies=[gone])
