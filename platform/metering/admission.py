"""Owns whether a request is admitted and how much it may write: the rules of all limits. No database here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering.limits import ADAPTER, TENANT, Demand, Limits, Price
from loraplex.platform.metering.meter import MeterState
from loraplex.platform.metering.standing import as_text, ratelimit_headers

# A request that does not say how much it writes reserves no more than this part of a limit for its answers, so that
# some of them can run side by side.
MOST_OF_A_LIMIT = 4
# If not even this much is left for each answer, or all there would be room for, such a request is refused: an answer
# that breaks off within its first sentence helps nobody. It is OpenAI's default for completions.
LEAST_ANSWER = 16
# Of what per-minute tokens and concurrency allow, lines of batches leave this part to requests that somebody waits for.
# They are no requests per minute: a batch would use these up in its first second.
LEFT_BY_BATCHES = 2
# Nobody knows when a running request ends.
CONCURRENCY_RETRY_SECONDS = 1.0

Limited = tuple[Limits, MeterState]


class Grant(NamedTuple):
    """What a request may use.

    Attributes:
        max_tokens: that each of its answers may have.
        tokens, nanos: what is reserved for it.
    """

    max_tokens: int
    tokens: int
    nanos: int


class _Refusal(NamedTuple):
    retry_after: float | None
    message: str
    code: str | None = None


def admit(
    limited: Sequence[Limited], demand: Demand, price: Price, adapter: str | None, now: datetime
) -> Grant:
    """What the request gets; nothing is counted yet. The meters must have been advanced to `now`.

    Args:
        adapter: the name of the adapter, for messages.

    Raises:
        LimitExceededError: it gets nothing.
    """
    each = _each(limited, demand, price)
    prompt, written = demand.prompt_tokens, each * demand.answers
    grant = Grant(each, prompt + written, price.most(prompt, written))
    refusals = [
        refusal
        for limits, meter in limited
        for refusal in _refusals(
            _for_batches(limits, grant) if demand.batch else limits,
            meter,
            grant,
            _whose(meter, adapter),
            now,
        )
    ]
    if refusals:
        # What does not help to wait for comes first, then the longest wait; among equals the first.
        worst = max(
            refusals, key=lambda r: float("inf") if r.retry_after is None else r.retry_after
        )
        raise LimitExceededError(
            worst.message,
            retry_after=worst.retry_after,
            code=worst.code,
            headers=ratelimit_headers(limited, now),
        )
    return grant


def _for_batches(limits: Limits, grant: Grant) -> Limits:
    """What limits allow a line of a batch. One larger than its part of the tokens may have all, when nobody uses them;
    a limit of zero admits nothing of anybody."""
    tokens, running = limits.tokens_per_minute, limits.max_concurrent
    if tokens is not None and grant.tokens <= tokens // LEFT_BY_BATCHES:
        tokens //= LEFT_BY_BATCHES
    if running is not None and running > 1:
        running //= LEFT_BY_BATCHES
    return replace(
        limits,
        requests_per_minute=0 if limits.requests_per_minute == 0 else None,
        tokens_per_minute=tokens,
        max_concurrent=running,
    )


def _each(limited: Sequence[Limited], demand: Demand, price: Price) -> int:
    """The most tokens of one answer."""
    if demand.max_tokens is not None:
        return demand.max_tokens
    room = max(1, demand.room)
    left = room * demand.answers  # for all answers together
    least = LEAST_ANSWER * demand.answers
    for limits, meter in limited:
        for limit, used, needed, each in (
            (limits.tokens_per_minute, meter.minute_tokens, demand.prompt_tokens, 1),
            (limits.tokens_per_month, meter.month_tokens, demand.prompt_tokens, 1),
            (
                limits.cost_per_month_nanos,
                meter.month_cost_nanos,
                price.most(demand.prompt_tokens, 0),
                price.output,
            ),
        ):
            if limit is None or not each:
                continue
            part = limit // MOST_OF_A_LIMIT // each
            left = min(left, part, (limit - used - needed) // each)
            least = min(least, part)
    return max(left // demand.answers, min(room, least // demand.answers), 1)


def _refusals(
    limits: Limits, meter: MeterState, grant: Grant, whose: str, now: datetime
) -> Iterator[_Refusal]:
    """Why one subject does not admit the request: nothing if it does."""
    most = limits.requests_per_minute
    if most is not None and meter.minute_requests >= most:
        wait = meter.requests_fit_in(most, now) if most else None
        yield _Refusal(wait, f"{whose} may send {most} requests per minute; {_advice(wait)}")
    most = limits.tokens_per_minute
    if most is not None and meter.minute_tokens + grant.tokens > most:
        # A request that is larger than the limit never fits.
        wait = meter.tokens_fit_in(grant.tokens, most, now) if grant.tokens <= most else None
        left = max(0, most - meter.minute_tokens)
        yield _Refusal(
            wait,
            f"{whose} may use {most} tokens per minute, of which {left} are left, and this request may take "
            f"{grant.tokens}; {_advice(wait, 'send a shorter prompt, lower max_tokens')}",
        )
    most = limits.max_concurrent
    if most is not None and meter.running >= most:
        wait = CONCURRENCY_RETRY_SECONDS if most else None
        yield _Refusal(wait, f"{whose} may run {most} requests at once; {_advice(wait)}")
    most = limits.tokens_per_month
    if most is not None and meter.month_tokens + grant.tokens > most:
        left = max(0, most - meter.month_tokens)
        yield _Refusal(
            None,
            f"{whose} may use {most} tokens per month, of which {left} are left, and this request may take "
            f"{grant.tokens}; {_advice(None, 'lower max_tokens')}",
            code="insufficient_quota",
        )
    most = limits.cost_per_month_nanos
    if most is not None and meter.month_cost_nanos + grant.nanos > most:
        left = max(0, most - meter.month_cost_nanos)
        yield _Refusal(
            None,
            f"{whose} may spend {_money(most)} per month, of which {_money(left)} is left, and this request may cost "
            f"{_money(grant.nanos)}; {_advice(None, 'lower max_tokens')}",
            code="insufficient_quota",
        )


def _advice(wait: float | None, other: str = "") -> str:
    first = other if wait is None else f"wait {as_text(wait)}"
    return f"{first}{', or ' if first else ''}ask for a higher limit."


def _whose(meter: MeterState, adapter: str | None) -> str:
    if meter.subject.kind == ADAPTER:
        return f"The adapter {adapter!r}"
    return "Your tenant" if meter.subject.kind == TENANT else "Your key"


def _money(nanos: int) -> str:
    """As a plain decimal; the currency is the operator's."""
    return f"{Decimal(nanos) / 1_000_000_000:f}"
