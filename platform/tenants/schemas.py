"""Owns the JSON of tenants."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.db.models import Tenant

# Python's `$` also matches in front of a last line break; JSON Schema has no `\Z`.
TENANT_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$(?!\n)"
TENANT_NAME_MEANING = "lower-case letters, digits and dashes, at most 63"
# What every reader of JSON takes for a whole number; and 10 PiB.
MAX_STORAGE = 2**53 - 1
MAX_LEDGER_DAYS = 36_500

TenantName = Annotated[str, Meta(pattern=TENANT_NAME, description=TENANT_NAME_MEANING)]
Weight = Annotated[float, Meta(ge=0.01, le=1000, description="share of a busy engine")]
MaxRunning = Annotated[int, Meta(ge=1, le=1_000_000)]
StorageLimit = Annotated[int, Meta(ge=0, le=MAX_STORAGE)]
LedgerDays = Annotated[int, Meta(ge=1, le=MAX_LEDGER_DAYS)]


class TenantCreate(Struct, forbid_unknown_fields=True):
    """What a new tenant needs."""

    name: TenantName


class TenantChange(Struct, forbid_unknown_fields=True):
    """What is to change about a tenant; null is no limit, for `ledger_days` that of the service."""

    weight: Weight | UnsetType = UNSET
    max_running: MaxRunning | UnsetType | None = UNSET
    storage_limit: StorageLimit | UnsetType | None = UNSET
    ledger_days: LedgerDays | UnsetType | None = UNSET


class TenantOut(Struct):
    """A tenant; `weight` is its share of a busy engine, `max_running` how many requests an engine works on at once,
    `storage_limit` bytes of stored weights, `ledger_days` how long its ledger rows are kept."""

    id: str
    name: str
    created_at: datetime
    weight: float
    max_running: int | None
    storage_limit: int | None
    ledger_days: int | None

    @classmethod
    def of(cls, row: Tenant) -> "TenantOut":
        return cls(
            id=str(row.id),
            name=row.name,
            created_at=row.created_at,
            weight=row.weight,
            max_running=row.max_running,
            storage_limit=row.storage_limit,
            ledger_days=row.ledger_days,
        )


class TenantList(Struct):
    """A page of tenants by name; `next` is the `after` of the following page."""

    data: list[TenantOut]
    next: str | None
