"""Owns the OpenAPI of the routes of tenants that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema
from loraplex.platform.tenants.schemas import (
    MAX_LEDGER_DAYS,
    MAX_STORAGE,
    TENANT_NAME,
    TENANT_NAME_MEANING,
)


@dataclass
class CreateTenantOperation(Operation):
    """What a new tenant needs."""

    def __post_init__(self) -> None:
        name = Schema(type=OpenAPIType.STRING, pattern=TENANT_NAME, description=TENANT_NAME_MEANING)
        self.request_body = body_of("application/json", object_schema({"name": name}, ["name"]))


@dataclass
class ChangeTenantOperation(Operation):
    """What can be changed about a tenant."""

    def __post_init__(self) -> None:
        fields = {
            "weight": Schema(
                type=OpenAPIType.NUMBER,
                minimum=0.01,
                maximum=1000,
                description="share of a busy engine beside other tenants",
            ),
            "max_running": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=1,
                maximum=1_000_000,
                description="most requests of the tenant an engine works on at once; null: no limit",
            ),
            "storage_limit": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=0,
                maximum=MAX_STORAGE,
                description="bytes of stored weights; null: no limit",
            ),
            "ledger_days": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=1,
                maximum=MAX_LEDGER_DAYS,
                description="how long ledger rows are kept; null: as the service keeps them",
            ),
        }
        self.request_body = body_of("application/json", object_schema(fields, required=[]))
