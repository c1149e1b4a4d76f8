"""Owns the JSON of users, sessions, members and codes."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.accounts.signed_in import SignedIn, TenantRole
from loraplex.platform.auth.principal import Role, Scope
from loraplex.platform.db.models import Membership, OneTimeCode, User, UserSession

EMAIL_LENGTH, NAME_LENGTH, PASSWORD_LENGTH, CODE_LENGTH = 254, 100, 200, 64
# Enough to notice a slip; whether mail arrives only mail can tell. No whitespace, and with it no line break at the end.
# Nor U+0130: no other letter is longer in lower case, which is how addresses are stored.
EMAIL = r"^[^\s@\x00-\x1f\u0130]{1,64}@[^\s@\x00-\x1f\u0130]{1,253}$(?!\n)"
# PostgreSQL stores no NUL.
_TEXT = r"^[^\x00]*$"

Email = Annotated[str, Meta(max_length=EMAIL_LENGTH, pattern=EMAIL)]
# What is looked up may look like anything: it is wrong then.
Typed = Annotated[str, Meta(max_length=EMAIL_LENGTH, pattern=_TEXT)]
Name = Annotated[str, Meta(max_length=NAME_LENGTH, pattern=_TEXT)]
Password = Annotated[str, Meta(max_length=PASSWORD_LENGTH)]
Code = Annotated[str, Meta(max_length=CODE_LENGTH)]


class SignInBody(Struct, forbid_unknown_fields=True):
    """Who signs in."""

    email: Typed
    password: Password


class PasswordChange(Struct, forbid_unknown_fields=True):
    """The password of now and the one to come."""

    current: Password
    password: Password


class PasswordReset(Struct, forbid_unknown_fields=True):
    """A code an operator made, and the password to come."""

    code: Code
    password: Password


class SetupBody(Struct, forbid_unknown_fields=True):
    """The code `serve` printed, and the first operator."""

    code: Code
    email: Email
    password: Password
    name: Name = ""


class InvitationAccept(Struct, forbid_unknown_fields=True):
    """An invitation's code; who is signed in needs nothing else. `password` is that of the account with the invited
    address if there is one, else that of the new one."""

    code: Code
    password: Password | None = None
    name: Name = ""


class UserCreate(Struct, forbid_unknown_fields=True):
    """A new user."""

    email: Email
    name: Name = ""
    is_operator: bool = False


class UserChange(Struct, forbid_unknown_fields=True):
    """What is to change about a user."""

    disabled: bool | UnsetType = UNSET
    is_operator: bool | UnsetType = UNSET
    name: Name | UnsetType = UNSET


class MemberCreate(Struct, forbid_unknown_fields=True):
    """A user who becomes a member, by the address of the account."""

    email: Typed
    role: Role


class MemberChange(Struct, forbid_unknown_fields=True):
    """The role to come."""

    role: Role


class InvitationCreate(Struct, forbid_unknown_fields=True):
    """Who is invited, and as what."""

    email: Email
    role: Role


class UserOut(Struct):
    """A user."""

    id: str
    email: str
    name: str
    is_operator: bool
    disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None

    @classmethod
    def of(cls, row: User) -> "UserOut":
        return cls(
            id=row.id,
            email=row.email,
            name=row.name,
            is_operator=row.is_operator,
            disabled=row.disabled_at is not None,
            created_at=row.created_at,
            last_sign_in_at=row.last_sign_in_at,
        )


class UserList(Struct):
    """A page of users by e-mail address; `next` is the `after` of the following page."""

    data: list[UserOut]
    next: str | None


class CodeOut(Struct):
    """A one-time code, in this answer and nowhere else."""

    code: str
    expires_at: datetime


class UserMade(Struct):
    """A new user, and the code with which the first password is set."""

    user: UserOut
    reset: CodeOut


class WhoOut(Struct):
    """The user of a session."""

    id: str
    email: str
    name: str
    is_operator: bool


class TenantRoleOut(Struct):
    """What the user is in a tenant, and may do there."""

    name: str
    role: Role
    scopes: list[Scope]

    @classmethod
    def of(cls, role: TenantRole) -> "TenantRoleOut":
        return cls(role.tenant_name, role.role, sorted(role.role.scopes))


class SessionOut(Struct):
    """Who is signed in. `csrf_token` is the value of the header `x-csrf-token`."""

    user: WhoOut
    tenants: list[TenantRoleOut]
    csrf_token: str
    expires_at: datetime

    @classmethod
    def of(cls, signed_in: SignedIn) -> "SessionOut":
        user = WhoOut(signed_in.user_id, signed_in.email, signed_in.name, signed_in.is_operator)
        tenants = [TenantRoleOut.of(role) for role in signed_in.roles]
        return cls(user, tenants, signed_in.csrf_token, signed_in.expires_at)


class OpenSessionOut(Struct):
    """One of the user's sessions; `current` is the one that asks."""

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool

    @classmethod
    def of(cls, row: UserSession, current: bool) -> "OpenSessionOut":
        return cls(
            id=str(row.id),
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
            address=row.address,
            user_agent=row.user_agent,
            current=current,
        )


class OpenSessionList(Struct):
    """Every session of the user, the last used first."""

    data: list[OpenSessionOut]


class SetupState(Struct):
    """What a sign-in page has to offer: `open` if the first operator is still to be made, `oidc` if one can sign in by
    way of an OpenID Connect provider."""

    open: bool
    oidc: bool


class MemberOut(Struct):
    """A user in a tenant."""

    id: str
    email: str
    name: str
    role: Role
    disabled: bool
    since: datetime
    last_sign_in_at: datetime | None

    @classmethod
    def of(cls, row: Membership) -> "MemberOut":
        user = row.user
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            role=Role(row.role),
            disabled=user.disabled_at is not None,
            since=row.created_at,
            last_sign_in_at=user.last_sign_in_at,
        )


class MemberList(Struct):
    """Every member of a tenant, by e-mail address."""

    data: list[MemberOut]


class InvitationOut(Struct, omit_defaults=True):
    """An invitation; `code` is present only in the answer that made it."""

    id: str
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime
    created_by: str | None
    code: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: OneTimeCode, code: str | UnsetType = UNSET) -> "InvitationOut":
        return cls(
            id=str(row.id),
            email=row.email or "",
            role=Role(row.role or ""),
            created_at=row.created_at,
            expires_at=row.expires_at,
            created_by=row.created_by,
            code=code,
        )


class InvitationList(Struct):
    """Open invitations, oldest first."""

    data: list[InvitationOut]
