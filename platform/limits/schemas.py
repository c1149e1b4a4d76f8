"""Owns the JSON of limits and prices."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from loraplex.platform.db.models import Limit, Price
from loraplex.platform.limits.money import amount, amount_nanos, per_million, price_nanos
from loraplex.platform.limits.service import Limited
from loraplex.platform.metering.limits import Limits
from loraplex.platform.metering.limits import Price as Nanos
from loraplex.platform.metering.meter import MeterState

MAX_COUNT = 1_000_000_000
MAX_TOKENS = 10**15

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class LimitSet(Struct, forbid_unknown_fields=True):
    """Every limit of a tenant, a key or an adapter; null or absent: none."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Tokens | None = None
    max_concurrent: Count | None = None
    tokens_per_month: Tokens | None = None
    cost_per_month: Decimal | None = None

    def limits(self) -> Limits:
        """The same with money as it is kept.

        Raises:
            BadRequestError: an amount that cannot be one.
        """
        cost = self.cost_per_month
        return Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_concurrent=self.max_concurrent,
            tokens_per_month=self.tokens_per_month,
            cost_per_month_nanos=None if cost is None else amount_nanos(cost, "cost_per_month"),
        )


class Used(Struct):
    """Where a limited tenant, key or adapter stands: requests that run, what the last minute and this month (of UTC)
    have taken. What running requests have reserved counts as used."""

    running: int
    requests_last_minute: int
    tokens_last_minute: int
    month: str
    tokens_this_month: int
    cost_this_month: float

    @classmethod
    def of(cls, meter: MeterState) -> "Used":
        return cls(
            running=meter.running,
            requests_last_minute=meter.minute_requests,
            tokens_last_minute=meter.minute_tokens,
            month=meter.month,
            tokens_this_month=meter.month_tokens,
            cost_this_month=amount(meter.month_cost_nanos),
        )


class LimitOut(Struct):
    """The limits of a tenant (`name` is its name), a key (its id) or an adapter (its name). `used` is null where
    nothing is limited, and until the first request after that: then nothing is counted."""

    subject: str
    name: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent: int | None
    tokens_per_month: int | None
    cost_per_month: float | None
    used: Used | None

    @classmethod
    def of(cls, limited: Limited, limit: Limit | None, meter: MeterState | None) -> "LimitOut":
        if limit is None:
            return cls(limited.kind, limited.name, None, None, None, None, None, None)
        cost = limit.cost_per_month_nanos
        return cls(
            subject=limited.kind,
            name=limited.name,
            requests_per_minute=limit.requests_per_minute,
            tokens_per_minute=limit.tokens_per_minute,
            max_concurrent=limit.max_concurrent,
            tokens_per_month=limit.tokens_per_month,
            cost_per_month=None if cost is None else amount(cost),
            used=None if meter is None else Used.of(meter),
        )


class PriceSet(Struct, forbid_unknown_fields=True):
    """What a million tokens cost; those that came from the prefix cache as much as others unless `cached_input` says
    otherwise."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None

    def nanos(self) -> Nanos:
        """The same as it is kept.

        Raises:
            BadRequestError: a number that cannot be a price.
        """
        given = price_nanos(self.input, "input")
        cached = self.cached_input
        return Nanos(
            input=given,
            cached=given if cached is None else price_nanos(cached, "cached_input"),
            output=price_nanos(self.output, "output"),
        )


class PriceOut(Struct):
    """What a million tokens on a base model cost, with `adapter` for one adapter. Where none was set (`is_set`) it is
    zero, or for an adapter what its base model costs."""

    base: str
    adapter: str | None
    input: float
    cached_input: float
    output: float
    is_set: bool

    @classmethod
    def of(
        cls, base: str, adapter: str | None, row: Price | None, *, own: bool = True
    ) -> "PriceOut":
        if row is None:
            return cls(base, adapter, 0.0, 0.0, 0.0, is_set=False)
        return cls(
            base=base,
            adapter=adapter,
            input=per_million(row.input_nanos),
            cached_input=per_million(row.cached_nanos),
            output=per_million(row.output_nanos),
            is_set=own,
        )


class PriceList(Struct):
    """The prices of base models, by id."""

    data: list[PriceOut]
