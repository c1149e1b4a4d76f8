"""Owns what is known of a request when its ledger row is closed."""

from typing import NamedTuple
from uuid import UUID

from loraplex.engine.request import Timings

SETTLED = "settled"
REAPED = "reaped"
RESERVED = "reserved"


class Settlement(NamedTuple):
    """The end of one request.

    Attributes:
        ledger_id: of its row.
        state: `SETTLED` by the worker that ran it, or `REAPED`: by another, from what the engine knew. What is reaped
            can be settled after all, when its worker was only away; what is settled never changes again.
        finish_reason: "stop" or "length"; "error": the engine gave it up; "cancelled": its reader left; "lost": the
            engine stopped, or none came back in time; "refused": no engine took it on.
        prompt_tokens, cached_tokens, output_tokens: what was computed and handed over, of all choices; a prompt that
            several choices answer counts once.
        seconds: from the reservation to the end; first_token: until the first token came, None if none did.
        timings: what the engine told of the choice that ended last, None if it did not end it.
        evicted_by: see `engines.messages.Delta`.
    """

    ledger_id: UUID
    state: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    first_token: float | None = None
    timings: Timings | None = None
    evicted_by: str | None = None
