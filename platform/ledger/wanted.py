"""Owns which ledger rows are wanted, and the queries for them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select

from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.metering.identity import first_id
from loraplex.platform.metering.statements import LEDGER

# Rows that one page looks at, at most: what no index finds, such as slow requests, is looked for in these, and `next`
# leads on. They take SQLite 30 ms in the worst case.
MOST_SEEN = 20_000
# Ids tell the time to the millisecond, those of earlier releases a little beside `created_at`.
_SLACK = timedelta(minutes=1)
# What ids can tell, and `_SLACK` be added to.
_FIRST, _LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class State(StrEnum):
    """Where a request stands; see `db.models.LedgerEntry`."""

    RESERVED = "reserved"
    SETTLED = "settled"
    REAPED = "reaped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows: of whom (None: everybody's), and what they say. None is any. `names` are the adapters and base
    models that may be seen, `before` the id of the last row of the page before."""

    tenant_id: UUID | None
    adapter: str | None = None
    key: str | None = None
    answer_id: str | None = None
    state: State | None = None
    finish_reason: str | None = None
    endpoint: str | None = None
    slower_than_ms: float | None = None
    since: datetime | None = None
    until: datetime | None = None
    names: frozenset[str] | None = None
    before: UUID | None = None

    def rows(self, floor: UUID | None) -> Select[LedgerEntry]:
        """Newest first, none older than `floor`."""
        query = select(LedgerEntry).where(*self._found(), *self._looked_for())
        if floor is not None:
            query = query.where(LedgerEntry.id >= floor)
        return query.order_by(LedgerEntry.id.desc())

    def floor(self) -> Select[Any] | None:
        """The id of the last row that a page may look at, if there are so many; None: an index finds all it wants."""
        if not self._looked_for() or self.answer_id or self.state is State.RESERVED:
            return None
        seen = select(LedgerEntry.id).where(*self._found()).order_by(LedgerEntry.id.desc())
        return seen.offset(MOST_SEEN - 1).limit(1)

    def _found(self) -> list[ColumnElement[bool]]:
        """What indexes find: rows of a tenant, of one of its adapters or keys, of an answer, of a time."""
        found: list[ColumnElement[bool]] = []
        if self.tenant_id is not None:
            found.append(LedgerEntry.tenant_id == self.tenant_id)
            if self.adapter is not None:
                found.append(LedgerEntry.adapter == self.adapter)
            elif self.key is not None:
                found.append(LedgerEntry.key_id == self.key)
        if self.answer_id is not None:
            found.append(_among(LEDGER.c.answer_id == self.answer_id))
        if self.state is State.RESERVED:
            # As text: no plan with a parameter can use the index of these few rows.
            found.append(_among(LEDGER.c.state == literal_column(f"'{State.RESERVED}'")))
        if self.since is not None:
            first = first_id(max(self.since, _FIRST) - _SLACK)
            found += [LedgerEntry.id >= first, LedgerEntry.created_at >= self.since]
        if self.until is not None:
            last = first_id(min(max(self.until, _FIRST), _LAST) + _SLACK)
            found += [LedgerEntry.id < last, LedgerEntry.created_at < self.until]
        if self.before is not None:
            found.append(LedgerEntry.id < self.before)
        return found

    def _looked_for(self) -> list[ColumnElement[bool]]:
        """What is left when indexes were asked."""
        left: list[ColumnElement[bool]] = []
        if self.adapter is not None and self.tenant_id is None:
            left.append(LedgerEntry.adapter == self.adapter)
        if self.key is not None and (self.tenant_id is None or self.adapter is not None):
            left.append(LedgerEntry.key_id == self.key)
        if self.state is not None and self.state is not State.RESERVED:
            left.append(LedgerEntry.state == self.state)
        if self.finish_reason is not None:
            left.append(LedgerEntry.finish_reason == self.finish_reason)
        if self.endpoint is not None:
            left.append(LedgerEntry.endpoint == self.endpoint)
        if self.slower_than_ms is not None:
            left.append(LedgerEntry.total_ms > self.slower_than_ms)
        if self.names is not None:
            base = and_(LedgerEntry.adapter.is_(None), LedgerEntry.base_model.in_(self.names))
            left.append(or_(LedgerEntry.adapter.in_(self.names), base))
        return left


def _among(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The few rows of a condition, found first: SQLite would rather read a whole tenant in order. Of the table, not the
    class: a session of one tenant would add the tenant to this query, and the same would happen."""
    return LedgerEntry.id.in_(select(LEDGER.c.id).where(condition))
