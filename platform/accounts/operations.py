"""Owns the OpenAPI of the routes of people that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.accounts.schemas import (
    CODE_LENGTH,
    EMAIL_LENGTH,
    NAME_LENGTH,
    PASSWORD_LENGTH,
)
from loraplex.platform.auth.principal import Role
from loraplex.platform.body_schema import body_of, object_schema


def _text(length: int, description: str | None = None) -> Schema:
    return Schema(type=OpenAPIType.STRING, max_length=length, description=description)


_EMAIL = _text(EMAIL_LENGTH)
_NAME = _text(NAME_LENGTH)
_PASSWORD = _text(PASSWORD_LENGTH)
_CODE = _text(CODE_LENGTH)
_ROLE = Schema(type=OpenAPIType.STRING, enum=[role.value for role in Role])
_FLAG = Schema(type=OpenAPIType.BOOLEAN)


@dataclass
class SignInOperation(Operation):
    """Who signs in."""

    def __post_init__(self) -> None:
        fields = {"email": _EMAIL, "password": _PASSWORD}
        self.request_body = body_of("application/json", object_schema(fields, [*fields]))


@dataclass
class ChangePasswordOperation(Operation):
    """Two passwords."""

    def __post_init__(self) -> None:
        fields = {"current": _PASSWORD, "password": _PASSWORD}
        self.request_body = body_of("application/json", object_schema(fields, [*fields]))


@dataclass
class ResetPasswordOperation(Operation):
    """A code and a password."""

    def __post_init__(self) -> None:
        fields = {"code": _CODE, "password": _PASSWORD}
        self.request_body = body_of("application/json", object_schema(fields, [*fields]))


@dataclass
class SetupOperation(Operation):
    """A code and the first operator."""

    def __post_init__(self) -> None:
        fields = {"code": _CODE, "email": _EMAIL, "password": _PASSWORD, "name": _NAME}
        schema = object_schema(fields, ["code", "email", "password"])
        self.request_body = body_of("application/json", schema)


@dataclass
class AcceptInvitationOperation(Operation):
    """A code, and who uses it."""

    def __post_init__(self) -> None:
        password = _text(PASSWORD_LENGTH, "not needed by who is signed in")
        fields = {"code": _CODE, "password": password, "name": _NAME}
        self.request_body = body_of("application/json", object_schema(fields, ["code"]))


@dataclass
class CreateUserOperation(Operation):
    """A new user."""

    def __post_init__(self) -> None:
        fields = {"email": _EMAIL, "name": _NAME, "is_operator": _FLAG}
        self.request_body = body_of("application/json", object_schema(fields, ["email"]))


@dataclass
class ChangeUserOperation(Operation):
    """What can be changed about a user."""

    def __post_init__(self) -> None:
        fields = {"disabled": _FLAG, "is_operator": _FLAG, "name": _NAME}
        self.request_body = body_of("application/json", object_schema(fields, []))


@dataclass
class AddMemberOperation(Operation):
    """Somebody and a role."""

    def __post_init__(self) -> None:
        fields = {"email": _EMAIL, "role": _ROLE}
        self.request_body = body_of("application/json", object_schema(fields, [*fields]))


@dataclass
class ChangeMemberOperation(Operation):
    """A role."""

    def __post_init__(self) -> None:
        self.request_body = body_of("application/json", object_schema({"role": _ROLE}, ["role"]))
