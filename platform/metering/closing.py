"""Owns closing one ledger row: what it says then, what meters give back and sums gain. No database here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from loraplex.platform.metering.limits import Price, Subject
from loraplex.platform.metering.meter import MeterState
from loraplex.platform.metering.rollups import ERRORS, Line, Rollups, Sums
from loraplex.platform.metering.settlement import RESERVED, SETTLED, Settlement

# Columns of a row that is closed, each a parameter of `statements.SETTLE` with `b_` in front.
Values = dict[str, object]


@dataclass(slots=True)
class Entry:
    """A ledger row as it stands; the fields are those of `db.models.LedgerEntry`."""

    id: UUID
    created_at: datetime
    tenant_id: UUID
    key_id: str
    base_model: str
    adapter: str | None
    version: int | None
    version_id: UUID | None
    state: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    reserved_tokens: int
    reserved_nanos: int
    input_nanos: int
    cached_nanos: int
    output_nanos: int
    cost_nanos: int
    limited: list[list[str]] | None

    @property
    def subjects(self) -> list[Subject]:
        """Whose meters count this row."""
        return [Subject(kind, id_) for kind, id_ in self.limited or ()]

    def takes(self, settlement: Settlement) -> bool:
        """Whether it can be closed so: what is settled stays, and what is reaped only its own worker corrects."""
        return self.state == RESERVED or (self.state != SETTLED and settlement.state == SETTLED)

    def close(
        self, settlement: Settlement, meters: Mapping[Subject, MeterState], rollups: Rollups
    ) -> Values:
        """Close it; every meter that counts it and still exists must be among `meters`."""
        was_reserved = self.state == RESERVED
        before = _sums(self, requests=0 if was_reserved else 1)
        counted = self.reserved_tokens, self.reserved_nanos
        if not was_reserved:
            counted = self.prompt_tokens + self.output_tokens, self.cost_nanos
        self._take(settlement)
        tokens = self.prompt_tokens + self.output_tokens - counted[0]
        nanos = self.cost_nanos - counted[1]
        for subject in self.subjects:
            if (meter := meters.get(subject)) is not None:
                meter.running -= was_reserved
                meter.add(self.created_at, requests=0, tokens=tokens, nanos=nanos)
        after = _sums(self, requests=1)
        difference = Sums(*(a - b for a, b in zip(after, before, strict=True)))
        line = Line(
            self.tenant_id, self.key_id, self.base_model, self.adapter or "", self.version or 0
        )
        rollups.add(line, self.created_at, difference)
        return self._values(settlement)

    def _take(self, settlement: Settlement) -> None:
        self.state = settlement.state
        self.finish_reason = settlement.finish_reason
        self.prompt_tokens = settlement.prompt_tokens
        self.cached_tokens = settlement.cached_tokens
        self.output_tokens = settlement.output_tokens
        price = Price(self.input_nanos, self.cached_nanos, self.output_nanos)
        self.cost_nanos = price.cost(self.prompt_tokens, self.cached_tokens, self.output_tokens)

    def _values(self, settlement: Settlement) -> Values:
        timings = settlement.timings
        values: Values = {
            "b_id": self.id,
            "b_cost_nanos": self.cost_nanos,
            "b_total_ms": _ms(settlement.seconds),
            "b_first_token_ms": _ms(settlement.first_token),
            "b_preemptions": 0 if timings is None else timings.preemptions,
            "b_evicted_by": settlement.evicted_by,
        }
        for name in ("state", "finish_reason", "prompt_tokens", "cached_tokens", "output_tokens"):
            values[f"b_{name}"] = getattr(settlement, name)
        for part in ("queue", "load", "prefill", "decode"):
            values[f"b_{part}_ms"] = None if timings is None else _ms(getattr(timings, part))
        return values


def _sums(entry: Entry, *, requests: int) -> Sums:
    """What the row adds to sums as it stands; nothing if it is not counted yet."""
    if not requests:
        return Sums(0, 0, 0, 0, 0, 0)
    return Sums(
        requests,
        int(entry.finish_reason in ERRORS),
        entry.prompt_tokens,
        entry.cached_tokens,
        entry.output_tokens,
        entry.cost_nanos,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
