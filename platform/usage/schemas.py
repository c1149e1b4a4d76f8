"""Owns the JSON of sums of usage."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from loraplex.platform.limits.money import amount
from loraplex.platform.usage.sums import Group, Line, Width


class UsageOut(Struct):
    """What was used in one bucket of time, from `start` to before `end`. Of `tenant` to `base` those are set by which
    sums were asked for; `adapter` and `version` are null for the base model itself. `cost` is in `currency`."""

    start: datetime
    end: datetime
    tenant: str | None
    key: str | None
    adapter: str | None
    version: int | None
    base: str | None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float
    currency: str

    @classmethod
    def of(
        cls,
        line: Line,
        by: tuple[Group, ...],
        width: Width,
        tenants: Mapping[UUID, str],
        currency: str,
    ) -> "UsageOut":
        (start, values), sums = line
        known = {group: str(value) for group, value in zip(by, values, strict=True)}
        if Group.TENANT in known:
            known[Group.TENANT] = tenants[UUID(known[Group.TENANT])]
        return cls(
            start=start,
            end=start + width.length,
            tenant=known.get(Group.TENANT),
            key=known.get(Group.KEY),
            adapter=known.get(Group.ADAPTER) or None,
            version=int(known.get(Group.VERSION, 0)) or None,
            base=known.get(Group.BASE),
            requests=sums.requests,
            errors=sums.errors,
            prompt_tokens=sums.prompt_tokens,
            cached_tokens=sums.cached_tokens,
            output_tokens=sums.output_tokens,
            cost=amount(sums.cost_nanos),
            currency=currency,
        )


class UsageList(Struct):
    """A page of sums, oldest first; `next` is the `after` of the following page."""

    data: list[UsageOut]
    next: str | None
