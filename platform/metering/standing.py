"""Owns the `x-ratelimit-*` headers: where the tightest subject stands after a request was counted, or refused."""

from collections.abc import Sequence
from datetime import datetime

from loraplex.platform.metering.limits import Limits
from loraplex.platform.metering.meter import MeterState


def ratelimit_headers(
    limited: Sequence[tuple[Limits, MeterState]], now: datetime
) -> dict[str, str]:
    """The headers, empty where neither requests nor tokens per minute are limited."""
    requests = [
        (limits.requests_per_minute, meter.minute_requests, meter)
        for limits, meter in limited
        if limits.requests_per_minute is not None
    ]
    tokens = [
        (limits.tokens_per_minute, meter.minute_tokens, meter)
        for limits, meter in limited
        if limits.tokens_per_minute is not None
    ]
    headers = {}
    for name, parts in (("requests", requests), ("tokens", tokens)):
        if not parts:
            continue
        limit, used, meter = min(parts, key=lambda part: part[0] - part[1])
        headers[f"x-ratelimit-limit-{name}"] = str(limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
        headers[f"x-ratelimit-reset-{name}"] = as_text(meter.empty_in(now))
    return headers


def as_text(seconds: float) -> str:
    """As OpenAI writes it: `12ms`, `4.02s`, `6m0s`."""
    if seconds < 1:
        return f"{round(1000 * seconds)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    shown = f"{rest:.2f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{shown}s" if minutes else f"{shown}s"
