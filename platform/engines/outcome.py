"""Owns how one generation ended, as whoever started it is told, exactly once for each that the engine took on."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from loraplex.engine.request import Timings
from loraplex.platform.engines.messages import Delta


class Outcome(NamedTuple):
    """The end of one job.

    Attributes:
        finish_reason: "stop" or "length"; "error": the engine gave it up; "cancelled": its reader left; "lost": the
            engine stopped, or none came back in time.
        prompt_tokens, cached_tokens, output_tokens: what was computed and handed over.
        seconds: from the beginning to the end, as seen here; first_token: until the first token came, None if none did.
        timings: what the engine told, None if it did not end the job.
        evicted_by: see `messages.Delta`.
    """

    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    first_token: float | None
    timings: Timings | None
    evicted_by: str | None


# Called with the index of the job. It must neither wait nor raise.
Settle = Callable[[int, Outcome], None]
# Called with the index of the job and what of it is handed over next. It must neither wait nor raise.
Handing = Callable[[int, Delta], None]
# Returns when what was told is written down, or that takes too long.
Written = Callable[[], Awaitable[None]]
CANCELLED = "cancelled"
LOST = "lost"
ERROR = "error"
