"""Owns the JSON of tenants and keys."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.auth.principal import Scope, read_scopes
from loraplex.platform.db.models import ApiKey, Tenant

# Python's `$` also matches in front of a last line break; JSON Schema has no `\Z`.
TENANT_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$(?!\n)"
TENANT_NAME_MEANING = "lower-case letters, digits and dashes, at most 63"
KEY_NAME_LENGTH = 100

TenantName = Annotated[str, Meta(pattern=TENANT_NAME, description=TENANT_NAME_MEANING)]
Weight = Annotated[float, Meta(ge=0.01, le=1000, description="share of a busy engine")]
MaxRunning = Annotated[int, Meta(ge=1, le=1_000_000)]
# PostgreSQL stores no NUL.
KeyName = Annotated[str, Meta(max_length=KEY_NAME_LENGTH, pattern=r"^[^\x00]*$")]


class TenantCreate(Struct, forbid_unknown_fields=True):
    """What a new tenant needs."""

    name: TenantName


class TenantChange(Struct, forbid_unknown_fields=True):
    """What is to change about a tenant; null for `max_running` is no limit."""

    weight: Weight | UnsetType = UNSET
    max_running: MaxRunning | UnsetType | None = UNSET


class TenantOut(Struct):
    """A tenant; `weight` is its share of a busy engine, `max_running` how many requests an engine works on at once."""

    id: str
    name: str
    created_at: datetime
    weight: float
    max_running: int | None

    @classmethod
    def of(cls, row: Tenant) -> "TenantOut":
        return cls(str(row.id), row.name, row.created_at, row.weight, row.max_running)


class TenantList(Struct):
    """A page of tenants by name; `next` is the `after` of the following page."""

    data: list[TenantOut]
    next: str | None


class KeyCreate(Struct, forbid_unknown_fields=True):
    """What a new key needs: nothing. Without `scopes` it does inference and manages adapters."""

    name: KeyName = ""
    scopes: list[str] | None = None


class KeyOut(Struct, omit_defaults=True):
    """A key; `key` is the secret itself, present only in the answer that created it."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    hint: str
    created_at: datetime
    revoked_at: datetime | None
    key: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: ApiKey, tenant: str, token: str | UnsetType = UNSET) -> "KeyOut":
        return cls(
            id=row.id,
            tenant=tenant,
            name=row.name,
            scopes=sorted(read_scopes(row.scopes)),
            hint=f"…{row.last4}",
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            key=token,
        )


class KeyList(Struct):
    """Every key of a tenant."""

    data: list[KeyOut]
