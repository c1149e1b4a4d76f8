"""Owns the sums that are kept beside the ledger: what a settled request adds to its minute, hour and day."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from loraplex.platform.metering.statements import SUMS, add_to_rollup

MINUTE, HOUR, DAY = "m", "h", "d"
# What is our fault: the engine gave it up, or was lost.
ERRORS = frozenset({"error", "lost"})


class Sums(NamedTuple):
    """What one request adds, or by how much it is corrected."""

    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nanos: int


class Line(NamedTuple):
    """What rows of one sum have in common, beside when it begins."""

    tenant_id: UUID
    key_id: str
    base_model: str
    adapter: str
    version: int


class Rollups:
    """Collects the sums of one transaction."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, datetime, Line], Sums] = {}

    def add(self, line: Line, at: datetime, sums: Sums) -> None:
        """Count a request that was reserved at a time."""
        minute = at.replace(second=0, microsecond=0)
        hour = minute.replace(minute=0)
        for unit, start in ((MINUTE, minute), (HOUR, hour), (DAY, hour.replace(hour=0))):
            known = self._sums.get((unit, start, line))
            total = (
                sums if known is None else Sums(*(a + b for a, b in zip(known, sums, strict=True)))
            )
            self._sums[unit, start, line] = total

    def write(self, connection: Connection) -> None:
        """Add them to what is stored, always in the same order: so nobody waits in a circle."""
        rows: list[Mapping[str, object]] = [
            {"unit": unit, "start": start, **line._asdict(), **dict(zip(SUMS, sums, strict=True))}
            for (unit, start, line), sums in sorted(self._sums.items())
        ]
        if rows:
            connection.execute(add_to_rollup(connection.dialect.name), rows)
