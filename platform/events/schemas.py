"""Owns the JSON of one event of live state."""

from datetime import datetime

from msgspec import Struct

from loraplex.platform.residency.schemas import EngineBrief


class Percentiles(Struct):
    """Milliseconds that 50, 95 and 99 of 100 do not exceed (nearest rank)."""

    p50: float
    p95: float
    p99: float


class Recent(Struct):
    """Requests of one base model that ended in the last minute; of more than a thousand those that began last.

    Attributes:
        ended: how many, by finish reason.
        first_token_ms: until the first token, of those that had one.
        between_tokens_ms: from the first token on, per token behind it.
        total_ms: from beginning to end.
    """

    ended: dict[str, int]
    first_token_ms: Percentiles | None
    between_tokens_ms: Percentiles | None
    total_ms: Percentiles | None


class LiveEvent(Struct):
    """What is sent once a second.

    Attributes:
        engines: by base model.
        recent: by base model, those without a request left out; null for keys without the scope `usage`.
        http_answers: HTTP answers since the server's start by status; operators only.
    """

    at: datetime
    engines: dict[str, EngineBrief]
    recent: dict[str, Recent] | None
    http_answers: dict[str, int] | None


class StreamEnd(Struct):
    """Why a stream ends: `session` (over, or its rights changed), `drain` (the server ends)."""

    reason: str
