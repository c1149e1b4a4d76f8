"""Owns the routes of signing in and out, and of a user's own sessions and password."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from loraplex.platform.accounts.answers import (
    NO_STORE,
    provide_signed_in,
    provide_visitor,
    session_answer,
    without_cookie,
)
from loraplex.platform.accounts.edge import Edge
from loraplex.platform.accounts.operations import ChangePasswordOperation, SignInOperation
from loraplex.platform.accounts.schemas import (
    OpenSessionList,
    OpenSessionOut,
    PasswordChange,
    SessionOut,
    SignInBody,
)
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import SignIn, Visitor
from loraplex.platform.accounts.signed_in import SignedIn
from loraplex.platform.auth.guards import requires_user
from loraplex.platform.auth.middleware import ANONYMOUS
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body

BODY_LIMIT = 16 * 1024
OWN = (requires_user,)


class SessionController(Controller):
    """Signing in is open to all, everything else is for who has done it."""

    path = "/api/v1/session"
    tags = ("session",)
    request_max_body_size = BODY_LIMIT
    dependencies = {  # noqa: RUF012 - Litestar's own form
        "signed_in": Provide(provide_signed_in, sync_to_thread=False),
        "visitor": Provide(provide_visitor, sync_to_thread=False),
    }

    @post(operation_id="SignIn", operation_class=SignInOperation, opt=ANONYMOUS, security=[{}])
    async def sign_in(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        sign_in: NamedDependency[SignIn],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[SessionOut]:
        """Sign in with a password: the answer sets the cookie that stands for the user from now on."""
        data = decode_body(await request.body(), SignInBody)
        opened = await sign_in.with_password(visitor, data.email, data.password)
        return await session_answer(request, edge, sessions, opened)

    @get(operation_id="GetSession", guards=OWN)
    async def who(self, signed_in: NamedDependency[SignedIn]) -> Response[SessionOut]:
        """Who is signed in, with the token for the header `x-csrf-token`."""
        return Response(SessionOut.of(signed_in), headers=NO_STORE)

    @delete(operation_id="SignOut", guards=OWN)
    async def sign_out(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        signed_in: NamedDependency[SignedIn],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[None]:
        """End this session."""
        await sessions.end(principal, signed_in.session_id)
        return without_cookie(request, edge)

    @get("/all", operation_id="ListSessions", guards=OWN)
    async def list_sessions(
        self, signed_in: NamedDependency[SignedIn], sessions: NamedDependency[Sessions]
    ) -> OpenSessionList:
        """Every session of the user."""
        rows = await sessions.list(signed_in.user_id)
        return OpenSessionList(
            [OpenSessionOut.of(row, row.id == signed_in.session_id) for row in rows]
        )

    @delete("/all", operation_id="SignOutEverywhere", guards=OWN)
    async def sign_out_everywhere(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[None]:
        """End every session of the user, this one included."""
        await sessions.end_own(principal)
        return without_cookie(request, edge)

    @delete("/all/{session_id:uuid}", operation_id="EndSession", guards=OWN)
    async def end_session(
        self,
        session_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        sessions: NamedDependency[Sessions],
    ) -> None:
        """End one session of the user."""
        await sessions.end(principal, session_id)

    @post(
        "/password",
        operation_id="ChangePassword",
        operation_class=ChangePasswordOperation,
        guards=OWN,
    )
    async def change_password(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        visitor: NamedDependency[Visitor],
        sign_in: NamedDependency[SignIn],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[SessionOut]:
        """Another password. All sessions end; the answer sets the cookie of a new one."""
        data = decode_body(await request.body(), PasswordChange)
        opened = await sign_in.change_password(principal, visitor, data.current, data.password)
        return await session_answer(request, edge, sessions, opened)
