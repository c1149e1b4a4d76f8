"""Owns the JSON of keys."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.auth.principal import Scope, read_scopes
from loraplex.platform.db.models import ApiKey

KEY_NAME_LENGTH = 100
# A list for one program. Longer ones would make every request of the key slower.
MAX_ADAPTERS = 1000
MAX_OVERLAP_SECONDS = 30 * 24 * 3600
DEFAULT_OVERLAP_SECONDS = 24 * 3600  # a working day wherever the key is in use
# Names of adapters as in catalog.names, and ids of base models, which have slashes and colons.
ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$(?!\n)"

# PostgreSQL stores no NUL.
KeyName = Annotated[str, Meta(max_length=KEY_NAME_LENGTH, pattern=r"^[^\x00]*$")]
AdapterName = Annotated[str, Meta(pattern=ADAPTER_NAME)]
Adapters = Annotated[list[AdapterName], Meta(max_length=MAX_ADAPTERS)]
Moment = Annotated[datetime, Meta(tz=True)]


class KeyCreate(Struct, forbid_unknown_fields=True):
    """What a new key needs: nothing. Without `scopes` it does inference and manages adapters, without `adapters` it may
    use and see all, without `expires_at` it has no end."""

    name: KeyName = ""
    scopes: list[str] | None = None
    adapters: Adapters | None = None
    expires_at: Moment | None = None


class OperatorKeyCreate(Struct, forbid_unknown_fields=True):
    """What a new operators' key may be given."""

    name: KeyName = ""
    expires_at: Moment | None = None


class KeyChange(Struct, forbid_unknown_fields=True):
    """What is to change about a key; null for `adapters` is all, for `expires_at` no end."""

    name: KeyName | UnsetType = UNSET
    adapters: Adapters | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET


class KeyRotate(Struct, forbid_unknown_fields=True):
    """How long the old key goes on beside the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_SECONDS)] = DEFAULT_OVERLAP_SECONDS


class KeyOut(Struct, omit_defaults=True):
    """A key; `key` is the secret itself, present only in the answer that created it. Operators' keys have neither
    `tenant` nor `scopes` nor `adapters`. `replaces` is the key it was rotated from."""

    id: str
    tenant: str | None
    name: str
    scopes: list[Scope]
    adapters: list[str] | None
    hint: str
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaces: str | None
    key: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: ApiKey, tenant: str | None, token: str | UnsetType = UNSET) -> "KeyOut":
        return cls(
            id=row.id,
            tenant=tenant,
            name=row.name,
            scopes=sorted(read_scopes(row.scopes)),
            adapters=row.adapters,
            hint=f"…{row.last4}",
            created_at=row.created_at,
            created_by=row.created_by,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            replaces=row.replaces,
            key=token,
        )


class KeyList(Struct):
    """Every key of a tenant, or every operators' key."""

    data: list[KeyOut]
