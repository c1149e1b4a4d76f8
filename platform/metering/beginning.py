"""Owns how a meter begins: with what its subject has used before it was limited."""

from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select, update

from loraplex.platform.db.models import Adapter, AdapterVersion
from loraplex.platform.metering.identity import first_id
from loraplex.platform.metering.limits import ADAPTER, KEY, Subject
from loraplex.platform.metering.meter import (
    SLOT_SECONDS,
    SLOTS,
    MeterState,
    month_of,
    month_start,
)
from loraplex.platform.metering.rollups import DAY
from loraplex.platform.metering.settlement import RESERVED
from loraplex.platform.metering.statements import LEDGER, ROLLUP, new_meter

_ADAPTER = cast(Table, Adapter.__table__)
_VERSION = cast(Table, AdapterVersion.__table__)
_WINDOW = timedelta(seconds=SLOT_SECONDS * (SLOTS + 1))


def begin_meter(
    connection: Connection, subject: Subject, tenant_id: UUID, now: datetime
) -> MeterState | None:
    """Make the meter of a subject; None if another transaction has made it meanwhile.

    Requests that run already are counted, and their rows told to take themselves off it when they end.
    """
    state = MeterState(subject, tenant_id, month=month_of(now))
    empty = {
        "subject": subject.kind,
        "subject_id": subject.id,
        "tenant_id": tenant_id,
        "running": 0,
        "window": [],
        "month": state.month,
        "month_tokens": 0,
        "month_cost_nanos": 0,
    }
    made = connection.execute(new_meter(connection.dialect.name), empty)
    if not made.rowcount:
        return None
    _add_running(connection, state)
    _add_ended(connection, state, now)
    return state


def _add_running(connection: Connection, state: MeterState) -> None:
    running = (
        select(
            LEDGER.c.id,
            LEDGER.c.created_at,
            LEDGER.c.reserved_tokens,
            LEDGER.c.reserved_nanos,
            LEDGER.c.limited,
            LEDGER.c.batch_id,
        )
        .where(LEDGER.c.state == RESERVED, _of(state))
        .order_by(LEDGER.c.id)
        .with_for_update()
    )
    rows = (connection.execute(running)).all()
    for row in rows:
        state.running += 1
        counted = int(row.batch_id is None)
        tokens, nanos = row.reserved_tokens, row.reserved_nanos
        state.add(row.created_at, requests=counted, tokens=tokens, nanos=nanos)
    if rows:
        mark = update(LEDGER).where(LEDGER.c.id == bindparam("b_id"))
        own = list(state.subject)
        connection.execute(
            mark.values(limited=bindparam("b_limited")),
            [
                {
                    "b_id": row.id,
                    "b_limited": [*(other for other in row.limited or () if other != own), own],
                }
                for row in rows
            ],
        )


def _add_ended(connection: Connection, state: MeterState, now: datetime) -> None:
    running = state.month_tokens, state.month_cost_nanos
    taken = LEDGER.c.prompt_tokens + LEDGER.c.output_tokens
    last = select(LEDGER.c.created_at, taken, LEDGER.c.batch_id).where(
        LEDGER.c.state != RESERVED, LEDGER.c.id >= first_id(now - _WINDOW), _of(state)
    )
    for created_at, tokens, batch_id in connection.execute(last):
        state.add(created_at, requests=int(batch_id is None), tokens=tokens, nanos=0)
    month = select(
        func.coalesce(func.sum(ROLLUP.c.prompt_tokens + ROLLUP.c.output_tokens), 0),
        func.coalesce(func.sum(ROLLUP.c.cost_nanos), 0),
    ).where(ROLLUP.c.unit == DAY, ROLLUP.c.start >= month_start(now), _summed(state))
    tokens, nanos = (connection.execute(month)).one()
    state.month_tokens, state.month_cost_nanos = running[0] + int(tokens), running[1] + int(nanos)
    state.advance(now)


def _of(state: MeterState) -> ColumnElement[bool]:
    """Ledger rows of the subject."""
    own = LEDGER.c.tenant_id == state.tenant_id
    kind, id_ = state.subject
    if kind == KEY:
        return own & (LEDGER.c.key_id == id_)
    if kind == ADAPTER:
        versions = select(_VERSION.c.id).where(_VERSION.c.adapter_id == UUID(id_))
        return own & LEDGER.c.version_id.in_(versions)
    return own


def _summed(state: MeterState) -> ColumnElement[bool]:
    """Sums of the subject."""
    own = ROLLUP.c.tenant_id == state.tenant_id
    kind, id_ = state.subject
    if kind == KEY:
        return own & (ROLLUP.c.key_id == id_)
    if kind == ADAPTER:
        name = select(_ADAPTER.c.name).where(_ADAPTER.c.id == UUID(id_))
        return own & (ROLLUP.c.adapter == name.scalar_subquery())
    return own
