"""Owns the SQL of metering, built once for each kind of database. Plain statements on a plain connection: one
transaction holds the rows of many tenants."""

from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import (
    Insert,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from loraplex.platform.db.models import AdapterVersion, LedgerEntry, Limit, Meter, UsageRollup

_T = TypeVar("_T")

LEDGER, METER, LIMIT, ROLLUP = (
    cast(Table, model.__table__) for model in (LedgerEntry, Meter, Limit, UsageRollup)
)
LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "max_concurrent",
    "tokens_per_month",
    "cost_per_month_nanos",
)
METERED = ("running", "window", "month", "month_tokens", "month_cost_nanos")
SUMS = ("requests", "errors", "prompt_tokens", "cached_tokens", "output_tokens", "cost_nanos")
_ENTRY = (
    "id",
    "created_at",
    "tenant_id",
    "key_id",
    "base_model",
    "adapter",
    "version",
    "version_id",
    "state",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reserved_tokens",
    "reserved_nanos",
    "input_nanos",
    "cached_nanos",
    "output_nanos",
    "cost_nanos",
    "limited",
)
_MEASURED = (
    "state",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_nanos",
    "total_ms",
    "first_token_ms",
    "queue_ms",
    "load_ms",
    "prefill_ms",
    "decode_ms",
    "preemptions",
    "evicted_by",
)


def padded(values: list[_T]) -> list[_T]:
    """The same values, their number made a power of two by repeating the last: so there are few different statements
    `IN (...)`, each prepared once."""
    size = 1 << (len(values) - 1).bit_length()
    return values + values[-1:] * (size - len(values))


def _lock_entries() -> Select[Any]:
    """Ledger rows by `ids`, nobody else's to change from here on; in one order, so that nobody waits in a circle."""
    return (
        select(*(LEDGER.c[name] for name in _ENTRY))
        .where(LEDGER.c.id.in_(bindparam("ids", expanding=True)))
        .order_by(LEDGER.c.id)
        .with_for_update()
    )


def _lock_meters() -> Select[Any]:
    """The meters of `metered` subjects, locked, and the limits of `limited` ones; beside each other where both are."""
    meters = (
        select(METER)
        .where(METER.c.subject_id.in_(bindparam("metered", expanding=True)))
        .order_by(METER.c.subject_id)
        .with_for_update()
        .subquery("meters")
    )
    limits = (
        select(
            LIMIT.c.subject, LIMIT.c.subject_id, LIMIT.c.tenant_id, *(LIMIT.c[n] for n in LIMITS)
        )
        .where(LIMIT.c.subject_id.in_(bindparam("limited", expanding=True)))
        .subquery("limits")
    )
    same = and_(meters.c.subject == limits.c.subject, meters.c.subject_id == limits.c.subject_id)
    return select(
        *(
            meters.c[n].label(f"meter_{n}")
            for n in ("subject", "subject_id", "tenant_id", *METERED)
        ),
        *(limits.c[n].label(f"limit_{n}") for n in ("subject", "subject_id", "tenant_id", *LIMITS)),
    ).select_from(meters.join(limits, same, full=True))


def _settle() -> Update:
    return (
        update(LEDGER)
        .where(LEDGER.c.id == bindparam("b_id"))
        .values({name: bindparam(f"b_{name}") for name in _MEASURED})
    )


def _write_meter() -> Update:
    return (
        update(METER)
        .where(
            METER.c.subject == bindparam("b_subject"),
            METER.c.subject_id == bindparam("b_subject_id"),
        )
        .values({name: bindparam(f"b_{name}") for name in METERED})
    )


ADAPTER_OF = select(AdapterVersion.adapter_id).where(AdapterVersion.id == bindparam("id"))
LOCK_ENTRIES = _lock_entries()
LOCK_METERS = _lock_meters()
SETTLE = _settle()
WRITE_METER = _write_meter()
RESERVE: Insert = insert(LEDGER)


@cache
def new_meter(dialect: str) -> Insert:
    """A meter at zero, unless there is one."""
    return _insert(dialect, METER).on_conflict_do_nothing()


@cache
def add_to_rollup(dialect: str) -> Insert:
    """Add sums to a row of `UsageRollup`, or make it."""
    statement = _insert(dialect, ROLLUP)
    return statement.on_conflict_do_update(
        index_elements=list(ROLLUP.primary_key.columns),
        set_={name: ROLLUP.c[name] + statement.excluded[name] for name in SUMS},
    )


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
