"""Owns the time that is asked about: whole buckets, and not too many."""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from loraplex.platform.errors import BadRequestError
from loraplex.platform.moments import in_utc
from loraplex.platform.usage.sums import Width

# Of one question: a day of minutes, a month of hours, more than a year of days.
MOST_BUCKETS = {Width.MINUTE: 1440, Width.HOUR: 744, Width.DAY: 400}
DEFAULT_BUCKETS = {Width.MINUTE: 60, Width.HOUR: 24, Width.DAY: 7}
_YEARS = range(1970, 3000)


class Window(NamedTuple):
    """From the beginning of a bucket to any moment."""

    start: datetime
    end: datetime


def window(width: Width, start: datetime | None, end: datetime | None, now: datetime) -> Window:
    """What `start` and `end` mean; without them the buckets up to now.

    Raises:
        BadRequestError: no time at all, or too much of it.
    """
    until = in_utc(end, "end") or now
    _check(until, "end")
    begin = in_utc(start, "start") or max(
        until - (DEFAULT_BUCKETS[width] - 1) * width.length, datetime(1970, 1, 1, tzinfo=UTC)
    )
    _check(begin, "start")
    begin = width.floor(begin)
    if begin >= until:
        raise BadRequestError("start must be before end.", param="start")
    if math.ceil((until - begin) / width.length) > (most := MOST_BUCKETS[width]):
        raise BadRequestError(
            f"That is more than {most} buckets of {width}; ask for less time or wider buckets.",
            param="start",
            code="too_many_buckets",
        )
    return Window(begin, until)


def _check(moment: datetime, param: str) -> None:
    if moment.year not in _YEARS:
        raise BadRequestError(f"{param}: give a moment between 1970 and 2999.", param=param)
