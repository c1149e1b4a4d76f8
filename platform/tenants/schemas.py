"""Owns the JSON of tenants and keys."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.auth.principal import Scope
from loraplex.platform.db.models import ApiKey, Tenant

TenantName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="lower-case letters, digits and dashes, at most 63",
    ),
]
KeyName = Annotated[str, Meta(max_length=100)]


class TenantCreate(Struct, forbid_unknown_fields=True):
    """What a new tenant needs."""

    name: TenantName


class TenantOut(Struct):
    """A tenant."""

    id: str
    name: str
    created_at: datetime

    @classmethod
    def of(cls, row: Tenant) -> "TenantOut":
        return cls(str(row.id), row.name, row.created_at)


class TenantList(Struct):
    """A page of tenants by name; `next` is the `after` of the following page."""

    data: list[TenantOut]
    next: str | None


class KeyCreate(Struct, forbid_unknown_fields=True):
    """What a new key needs: nothing. Without `scopes` it does inference and manages adapters."""

    name: KeyName = ""
    scopes: list[Scope] | None = None


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
            scopes=[Scope(scope) for scope in row.scopes],
            hint=f"…{row.last4}",
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            key=token,
        )


class KeyList(Struct):
    """Every key of a tenant."""

    data: list[KeyOut]
