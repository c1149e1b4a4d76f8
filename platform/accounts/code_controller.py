"""Owns the routes that one-time codes open: the first operator, invitations, forgotten passwords."""

from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from loraplex.platform.accounts.answers import provide_visitor, session_answer
from loraplex.platform.accounts.edge import Edge
from loraplex.platform.accounts.invitations import InvitationService
from loraplex.platform.accounts.oidc import Provider
from loraplex.platform.accounts.operations import (
    AcceptInvitationOperation,
    ResetPasswordOperation,
    SetupOperation,
)
from loraplex.platform.accounts.schemas import (
    InvitationAccept,
    PasswordReset,
    SessionOut,
    SetupBody,
    SetupState,
)
from loraplex.platform.accounts.session_controller import BODY_LIMIT
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.setup import Setup
from loraplex.platform.accounts.sign_in import Visitor
from loraplex.platform.accounts.users import UserService
from loraplex.platform.auth.middleware import ANONYMOUS, signed_in_of
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError


class CodeController(Controller):
    """Open to all who have a code."""

    path = "/api/v1"
    tags = ("session",)
    opt = ANONYMOUS
    security = ({},)
    request_max_body_size = BODY_LIMIT
    dependencies = {"visitor": Provide(provide_visitor, sync_to_thread=False)}  # noqa: RUF012 - Litestar's own form

    @get("/setup", operation_id="GetSetup")
    async def setup_state(
        self, setup: NamedDependency[Setup], oidc: NamedDependency[Provider | None]
    ) -> SetupState:
        """Whether the first operator is still to be made, and how one can sign in."""
        return SetupState(await setup.is_open(), oidc is not None)

    @post("/setup", operation_id="SetUp", operation_class=SetupOperation)
    async def set_up(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        setup: NamedDependency[Setup],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[SessionOut]:
        """Make the first operator with the code that `serve` printed, and sign in."""
        data = decode_body(await request.body(), SetupBody)
        opened = await setup.complete(visitor, data.code, data.email, data.password, data.name)
        return await session_answer(request, edge, sessions, opened)

    @post(
        "/invitations/accept",
        operation_id="AcceptInvitation",
        operation_class=AcceptInvitationOperation,
    )
    async def accept(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        invitations: NamedDependency[InvitationService],
        sessions: NamedDependency[Sessions],
        edge: NamedDependency[Edge],
    ) -> Response[SessionOut]:
        """Become a member of a tenant, and sign in."""
        data = decode_body(await request.body(), InvitationAccept)
        signed_in = signed_in_of(request.scope)
        if signed_in is not None and data.password is None:
            opened = await invitations.accept_signed_in(signed_in, visitor, data.code)
        elif data.password is None:
            raise BadRequestError(
                "password is missing.", code="missing_required_parameter", param="password"
            )
        else:
            opened = await invitations.accept(visitor, data.code, data.password, data.name)
        return await session_answer(request, edge, sessions, opened)

    @post(
        "/password-reset",
        operation_id="ResetPassword",
        operation_class=ResetPasswordOperation,
        status_code=204,
    )
    async def reset(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        users: NamedDependency[UserService],
    ) -> None:
        """Set a password with a code. All sessions of the user end."""
        data = decode_body(await request.body(), PasswordReset)
        await users.reset(visitor, data.code, data.password)
