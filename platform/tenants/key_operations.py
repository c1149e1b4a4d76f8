"""Owns the OpenAPI of the routes of keys that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from loraplex.platform.auth.principal import ADAPTERS, Scope
from loraplex.platform.body_schema import body_of, object_schema
from loraplex.platform.tenants.key_schemas import (
    ADAPTER_NAME,
    DEFAULT_OVERLAP_SECONDS,
    KEY_NAME_LENGTH,
    MAX_ADAPTERS,
    MAX_OVERLAP_SECONDS,
)


def _name() -> Schema:
    return Schema(type=OpenAPIType.STRING, max_length=KEY_NAME_LENGTH)


def _adapters() -> Schema:
    return Schema(
        type=[OpenAPIType.ARRAY, OpenAPIType.NULL],
        items=Schema(type=OpenAPIType.STRING, pattern=ADAPTER_NAME),
        max_items=MAX_ADAPTERS,
        description="names of the adapters the key may use and see; null: all",
    )


def _expires_at() -> Schema:
    return Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        format=OpenAPIFormat.DATE_TIME,
        description="a moment to come, with its zone, within 100 years; null: no end",
    )


@dataclass
class CreateKeyOperation(Operation):
    """What a new key may be given."""

    def __post_init__(self) -> None:
        scope = Schema(type=OpenAPIType.STRING, enum=[*(scope.value for scope in Scope), ADAPTERS])
        fields = {
            "name": _name(),
            "scopes": Schema(
                type=[OpenAPIType.ARRAY, OpenAPIType.NULL],
                items=scope,
                description="all but admin unless given; admin and inference do not go together",
            ),
            "adapters": _adapters(),
            "expires_at": _expires_at(),
        }
        self.request_body = body_of("application/json", object_schema(fields, required=[]))


@dataclass
class CreateOperatorKeyOperation(Operation):
    """What a new operators' key may be given."""

    def __post_init__(self) -> None:
        fields = {"name": _name(), "expires_at": _expires_at()}
        self.request_body = body_of("application/json", object_schema(fields, required=[]))


@dataclass
class ChangeKeyOperation(Operation):
    """What can be changed about a key."""

    def __post_init__(self) -> None:
        fields = {"name": _name(), "adapters": _adapters(), "expires_at": _expires_at()}
        self.request_body = body_of("application/json", object_schema(fields, required=[]))


@dataclass
class RotateKeyOperation(Operation):
    """How a key is rotated."""

    def __post_init__(self) -> None:
        fields = {
            "overlap_seconds": Schema(
                type=OpenAPIType.INTEGER,
                minimum=0,
                maximum=MAX_OVERLAP_SECONDS,
                default=DEFAULT_OVERLAP_SECONDS,
                description="how long the old key goes on beside the new one",
            )
        }
        self.request_body = body_of("application/json", object_schema(fields, required=[]))
