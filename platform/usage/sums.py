"""Owns which sums are wanted, and the query for them. Reads rollups only, never the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from loraplex.platform.db.models import UsageRollup
from loraplex.platform.db.scope import Whose
from loraplex.platform.metering.rollups import DAY, HOUR, MINUTE, Sums
from loraplex.platform.metering.statements import SUMS


class Width(StrEnum):
    """How long a bucket is. Buckets begin at whole minutes, hours and days of UTC."""

    MINUTE = "1m"
    HOUR = "1h"
    DAY = "1d"

    @property
    def unit(self) -> str:
        """Of the rollups that are these buckets."""
        return {Width.MINUTE: MINUTE, Width.HOUR: HOUR, Width.DAY: DAY}[self]

    @property
    def length(self) -> timedelta:
        """From one bucket to the next."""
        return {
            Width.MINUTE: timedelta(minutes=1),
            Width.HOUR: timedelta(hours=1),
            Width.DAY: timedelta(days=1),
        }[self]

    def floor(self, moment: datetime) -> datetime:
        """When the bucket of a moment (in UTC) begins."""
        minute = moment.replace(second=0, microsecond=0)
        if self is Width.MINUTE:
            return minute
        hour = minute.replace(minute=0)
        return hour if self is Width.HOUR else hour.replace(hour=0)


class Group(StrEnum):
    """By what sums can be told apart."""

    TENANT = "tenant"
    KEY = "key"
    ADAPTER = "adapter"
    VERSION = "version"
    BASE = "base"


_COLUMNS: dict[Group, InstrumentedAttribute[Any]] = {
    Group.TENANT: UsageRollup.tenant_id,
    Group.KEY: UsageRollup.key_id,
    Group.ADAPTER: UsageRollup.adapter,
    Group.VERSION: UsageRollup.version,
    Group.BASE: UsageRollup.base_model,
}
# How a value of a group is read back from text.
READ: dict[Group, Callable[[str], object]] = {
    Group.TENANT: UUID,
    Group.KEY: str,
    Group.ADAPTER: str,
    Group.VERSION: int,
    Group.BASE: str,
}


class Place(NamedTuple):
    """Where a line stands among all: they are sorted by it. `values` are those of the groups, in order."""

    start: datetime
    values: tuple[object, ...]


class Line(NamedTuple):
    """The sums of one bucket, or of one group in it."""

    place: Place
    sums: Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which sums.

    Attributes:
        whose: of a tenant, or of all.
        tenants: if given, only of these among them.
        start: of the first bucket; the last one begins before `end`.
        by: what has lines of its own.
        keys: only of these keys and users.
        adapter: only of this one.
        models: only of these adapters and base models.
        after: only lines that come later than this one.
    """

    whose: Whose
    width: Width
    start: datetime
    end: datetime
    by: tuple[Group, ...] = ()
    tenants: frozenset[UUID] | None = None
    keys: frozenset[str] | None = None
    adapter: str | None = None
    models: frozenset[str] | None = None
    after: Place | None = None

    def query(self) -> Select[Any]:
        """Rows of a start, the values of the groups, and the sums; sorted by the first two."""
        places = [UsageRollup.start, *(_COLUMNS[group] for group in self.by)]
        sums = [func.sum(getattr(UsageRollup, name)) for name in SUMS]
        query = select(*places, *sums).where(*self._conditions()).group_by(*places)
        if self.after is not None:
            values = (self.after.start, *self.after.values)
            known = [
                literal(value, column.type) for value, column in zip(values, places, strict=True)
            ]
            # The first condition is implied, and tells the database where to begin.
            query = query.where(
                UsageRollup.start >= self.after.start, tuple_(*places) > tuple_(*known)
            )
        return query.order_by(*places)

    def _conditions(self) -> list[ColumnElement[bool]]:
        conditions = [
            UsageRollup.unit == self.width.unit,
            UsageRollup.start >= self.start,
            UsageRollup.start < self.end,
        ]
        if isinstance(self.whose, UUID):
            conditions.append(UsageRollup.tenant_id == self.whose)
        if self.tenants is not None:
            conditions.append(UsageRollup.tenant_id.in_(self.tenants))
        if self.keys is not None:
            conditions.append(UsageRollup.key_id.in_(self.keys))
        if self.adapter is not None:
            conditions.append(UsageRollup.adapter == self.adapter)
        if self.models is not None:
            base = and_(UsageRollup.adapter == "", UsageRollup.base_model.in_(self.models))
            conditions.append(or_(UsageRollup.adapter.in_(self.models), base))
        return conditions
