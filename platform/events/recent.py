"""Owns what requests that ended a moment ago took, read from the ledger: it alone knows those of all API workers."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, or_, select

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import whose
from loraplex.platform.events.schemas import Percentiles, Recent
from loraplex.platform.ledger.wanted import State
from loraplex.platform.metering.identity import first_id

# What percentiles are of: long enough for a 99th to mean something, short enough to show a change at once.
WINDOW = timedelta(minutes=1)
# Rows are found by when they began; hardly any request takes longer.
LONGEST = timedelta(minutes=10)
# Reading so many takes SQLite a few milliseconds, once a second.
MOST_ROWS = 1000


class Ended(NamedTuple):
    """A request that is over."""

    base: str
    finish_reason: str
    created_at: datetime
    total_ms: float
    first_token_ms: float | None
    output_tokens: int


class RecentRequests:
    """Reads the end of the ledger."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = database.main
        self._clock = clock

    async def read(self, viewer: UUID | None, names: frozenset[str] | None) -> dict[str, Recent]:
        """By base model: everybody's requests or those of one tenant, of all its adapters and base models or of `names`
        alone."""
        now = self._clock()
        query = (
            select(
                LedgerEntry.base_model,
                LedgerEntry.finish_reason,
                LedgerEntry.created_at,
                LedgerEntry.total_ms,
                LedgerEntry.first_token_ms,
                LedgerEntry.output_tokens,
            )
            .where(LedgerEntry.id >= first_id(now - LONGEST), LedgerEntry.state != State.RESERVED)
            .order_by(LedgerEntry.id.desc())
            .limit(MOST_ROWS)
        )
        if viewer is not None:
            query = query.where(LedgerEntry.tenant_id == viewer)
        if names is not None:
            base = and_(LedgerEntry.adapter.is_(None), LedgerEntry.base_model.in_(names))
            query = query.where(or_(LedgerEntry.adapter.in_(names), base))
        async with self._store.reading(whose(viewer)) as session:
            rows = [Ended(*row) for row in await session.execute(query)]
        return summed(rows, now)


def summed(rows: Iterable[Ended], now: datetime) -> dict[str, Recent]:
    """Those that ended within `WINDOW` of `now`, by base model."""
    by_base: defaultdict[str, list[Ended]] = defaultdict(list)
    for row in rows:
        if row.created_at + timedelta(milliseconds=row.total_ms) >= now - WINDOW:
            by_base[row.base].append(row)
    return {base: _recent(some) for base, some in by_base.items()}


def _recent(rows: Sequence[Ended]) -> Recent:
    ended: defaultdict[str, int] = defaultdict(int)
    first, between = [], []
    for row in rows:
        ended[row.finish_reason] += 1
        if row.first_token_ms is None:
            continue
        first.append(row.first_token_ms)
        if row.output_tokens > 1:
            between.append((row.total_ms - row.first_token_ms) / (row.output_tokens - 1))
    return Recent(
        dict(ended),
        percentiles(first),
        percentiles(between),
        percentiles([r.total_ms for r in rows]),
    )


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """By nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    found = (ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95, 0.99))
    return Percentiles(*(round(value, 3) for value in found))
