"""Owns counting: what one subject has used in the last minute and this month, and what runs. No database here.

The minute is a sliding one of slots: what was counted in a slot counts whole until the last moment of the slot is a
minute ago, so that no 60 seconds, wherever they begin, ever hold more than a limit.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from loraplex.platform.metering.limits import Subject

# A request can wait this much longer for its turn than it would have to with exact times. Half as long would double
# what is read and written for each request.
SLOT_SECONDS = 5
# That lie in the last minute, at least partly, beside the present one.
SLOTS = 60 // SLOT_SECONDS


@dataclass(slots=True)
class MeterState:
    """Where a subject stands; the fields are those of `db.models.Meter`."""

    subject: Subject
    tenant_id: UUID
    running: int = 0
    window: list[list[int]] = field(default_factory=list)
    month: str = ""
    month_tokens: int = 0
    month_cost_nanos: int = 0

    def advance(self, now: datetime) -> None:
        """Forget what is over."""
        slot = slot_of(now)
        # A slot of the future is of a clock that is ahead of ours, unless it is far ahead: then ours was set back.
        self.window = [part for part in self.window if abs(part[0] - slot) <= SLOTS]
        if self.month < (month := month_of(now)):
            self.month, self.month_tokens, self.month_cost_nanos = month, 0, 0

    @property
    def minute_requests(self) -> int:
        return sum(requests for _, requests, _ in self.window)

    @property
    def minute_tokens(self) -> int:
        return sum(tokens for _, _, tokens in self.window)

    def add(self, at: datetime, *, requests: int, tokens: int, nanos: int) -> None:
        """Count what was reserved at a time, or correct it: then the numbers are differences."""
        slot = slot_of(at)
        part = next((part for part in self.window if part[0] == slot), None)
        if part is not None:
            part[1] += requests
            part[2] += tokens
        elif requests or tokens > 0:  # lines of batches are no requests, and have tokens
            self.window.append([slot, requests, tokens])
        if month_of(at) == self.month:
            self.month_tokens += tokens
            self.month_cost_nanos += nanos

    def requests_fit_in(self, limit: int, now: datetime) -> float:
        """Seconds until one more request fits a limit per minute, if no other comes before it."""
        return self._fits_in(1, limit - 1, now)

    def tokens_fit_in(self, tokens: int, limit: int, now: datetime) -> float:
        """Seconds until so many more tokens fit a limit per minute, if no others come before them."""
        return self._fits_in(2, limit - tokens, now)

    def empty_in(self, now: datetime) -> float:
        """Seconds until nothing of the last minute is left."""
        newest = max((slot for slot, _, _ in self.window), default=None)
        return 0.0 if newest is None else _over_in(newest, now)

    def _fits_in(self, column: int, most: int, now: datetime) -> float:
        used = sum(part[column] for part in self.window)
        wait = 0.0
        for part in sorted(self.window):
            if used <= most:
                break
            used -= part[column]
            wait = _over_in(part[0], now)
        return wait


def slot_of(at: datetime) -> int:
    """The slot of a moment."""
    return math.floor(at.timestamp() / SLOT_SECONDS)


def month_of(at: datetime) -> str:
    """The month of a moment (UTC), as meters name it."""
    return f"{at.year:04}-{at.month:02}"


def month_start(at: datetime) -> datetime:
    """When the month of a moment (UTC) began."""
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _over_in(slot: int, now: datetime) -> float:
    """Seconds until a slot counts no more."""
    return max(0.0, (slot + SLOTS + 1) * SLOT_SECONDS - now.timestamp())
