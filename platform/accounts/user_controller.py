"""Owns the routes with which operators see to users."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.accounts.answers import NO_STORE
from loraplex.platform.accounts.operations import ChangeUserOperation, CreateUserOperation
from loraplex.platform.accounts.schemas import (
    CodeOut,
    UserChange,
    UserCreate,
    UserList,
    UserMade,
    UserOut,
)
from loraplex.platform.accounts.session_controller import BODY_LIMIT
from loraplex.platform.accounts.users import UserService
from loraplex.platform.auth.guards import requires_operator
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.nul import refuse_nul

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


class UserController(Controller):
    """Operators make, change and see users."""

    path = "/api/v1/users"
    tags = ("users",)
    guards = (requires_operator, refuse_nul)
    request_max_body_size = BODY_LIMIT

    @get(operation_id="ListUsers")
    async def list_users(
        self,
        users: NamedDependency[UserService],
        email: FromQuery[str | None] = None,
        after: FromQuery[str] = "",
        limit: Limit = 100,
    ) -> UserList:
        """Users by e-mail address, or the one of an address."""
        rows = await users.list(after, limit, email)
        following = rows[-1].email if len(rows) == limit else None
        return UserList([UserOut.of(row) for row in rows], following)

    @post(operation_id="CreateUser", operation_class=CreateUserOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        users: NamedDependency[UserService],
    ) -> Response[UserMade]:
        """Make a user. The answer has the code with which the user sets a first password, this once."""
        data = decode_body(await request.body(), UserCreate)
        user, row, code = await users.create(principal, data.email, data.name, data.is_operator)
        made = UserMade(UserOut.of(user), CodeOut(code, row.expires_at))
        return Response(made, headers=NO_STORE)

    @patch("/{user_id:str}", operation_id="ChangeUser", operation_class=ChangeUserOperation)
    async def change(
        self,
        request: Request[Any, Any, State],
        user_id: FromPath[str],
        principal: NamedDependency[Principal],
        users: NamedDependency[UserService],
    ) -> UserOut:
        """Disable or enable a user, make or unmake an operator, or give another name."""
        data = decode_body(await request.body(), UserChange)
        changed = await users.change(
            principal,
            user_id,
            disabled=data.disabled,
            is_operator=data.is_operator,
            name=data.name,
        )
        return UserOut.of(changed)

    @post("/{user_id:str}/reset", operation_id="IssuePasswordReset")
    async def issue_reset(
        self,
        user_id: FromPath[str],
        principal: NamedDependency[Principal],
        users: NamedDependency[UserService],
    ) -> Response[CodeOut]:
        """A code with which the user sets a new password, shown this once."""
        row, code = await users.issue_reset(principal, user_id)
        return Response(CodeOut(code, row.expires_at), headers=NO_STORE)
