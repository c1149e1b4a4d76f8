"""Owns what one transaction does: closes ledger rows, admits or refuses requests, and keeps meters and sums in step.

Rows are locked in one order everywhere (ledger rows, meters, sums, each by id), so that workers do not wait in circles.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row

from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering import statements
from loraplex.platform.metering.admission import Grant, Limited, admit
from loraplex.platform.metering.beginning import begin_meter
from loraplex.platform.metering.closing import Entry, Values
from loraplex.platform.metering.identity import new_id
from loraplex.platform.metering.limits import ADAPTER, KEY, TENANT, Limits, Subject
from loraplex.platform.metering.meter import MeterState
from loraplex.platform.metering.rollups import Rollups
from loraplex.platform.metering.settlement import REAPED, RESERVED
from loraplex.platform.metering.standing import ratelimit_headers
from loraplex.platform.metering.work import Batch, Reservation, Reserving

RUNNING = "running"


class Decision(NamedTuple):
    """What came of a reservation."""

    reserving: Reserving
    result: Reservation | LimitExceededError


class Transaction:
    """One batch on a connection within a transaction, which the caller commits."""

    def __init__(
        self, connection: Connection, worker_id: UUID, clock: Callable[[], datetime]
    ) -> None:
        self._connection = connection
        self._worker_id = worker_id
        self._clock = clock
        self._now = clock()
        self._entries: dict[UUID, Entry] = {}
        self._meters: dict[Subject, MeterState] = {}
        self._limits: dict[Subject, Limits] = {}
        self._changed: set[Subject] = set()

    def write(self, batch: Batch) -> list[Decision]:
        """Do all of it."""
        self._lock_entries(batch)
        self._lock_meters(batch)
        self._settle(batch)
        decisions, rows = self._reserve(batch)
        if self._changed:
            # Before rows are inserted: others may wait for a meter, nobody for a new row.
            values = [_meter_values(self._meters[subject]) for subject in sorted(self._changed)]
            self._connection.execute(statements.WRITE_METER, values)
        if rows:
            self._connection.execute(statements.RESERVE, rows)
        return decisions

    def _lock_entries(self, batch: Batch) -> None:
        if not batch.settles:
            return
        ids = sorted({settling.settlement.ledger_id for settling in batch.settles})
        rows = self._connection.execute(statements.LOCK_ENTRIES, {"ids": statements.padded(ids)})
        self._entries = {row.id: Entry(*row) for row in rows}
        for entry in self._entries.values():
            if entry.state == REAPED:
                self._find_meters(entry)

    def _find_meters(self, entry: Entry) -> None:
        """A meter that began after a row was reaped counts it too: it began with the sums."""
        subjects = {Subject(TENANT, str(entry.tenant_id)), Subject(KEY, entry.key_id)}
        if entry.version_id is not None:
            adapter = self._connection.scalar(statements.ADAPTER_OF, {"id": entry.version_id})
            subjects.add(Subject(ADAPTER, str(adapter)))
        entry.limited = [list(subject) for subject in sorted(subjects.union(entry.subjects))]

    def _lock_meters(self, batch: Batch) -> None:
        """The meters of everybody in the batch who has one, or a limit; and the limits of those who reserve."""
        reserving = {s for reserving in batch.reserves for s in reserving.request.subjects}
        metered = reserving.union(*(entry.subjects for entry in self._entries.values()))
        if not metered:
            return
        missing: dict[Subject, UUID] = {}
        for row in self._meter_rows(metered, reserving):
            if row.meter_subject is not None:
                meter = _meter(row)
                self._meters[meter.subject] = meter
            if row.limit_subject is not None:
                subject = Subject(row.limit_subject, row.limit_subject_id)
                self._limits[subject] = Limits(
                    *(getattr(row, f"limit_{name}") for name in statements.LIMITS)
                )
                if row.meter_subject is None:
                    missing[subject] = row.limit_tenant_id
        for subject in sorted(missing):
            begun = begin_meter(self._connection, subject, missing[subject], self._now)
            if begun is not None:
                self._meters[subject] = begun
                self._changed.add(subject)
                continue
            for row in self._meter_rows({subject}, {subject}):
                self._meters[subject] = _meter(row)
        if missing:
            # What ends in this batch was running for the new meters, and its rows say so now.
            self._lock_entries(batch)
        # The wait for a lock may have been long, and what is admitted counts from when it is.
        self._now = self._clock()
        for meter in self._meters.values():
            meter.advance(self._now)

    def _meter_rows(self, metered: set[Subject], limited: set[Subject]) -> Sequence[Row[Any]]:
        ids = {
            "metered": statements.padded(sorted({subject.id for subject in metered})),
            # Settlements need no limits, and an empty list would be a statement of its own.
            "limited": statements.padded(sorted({subject.id for subject in limited}) or [""]),
        }
        result = self._connection.execute(statements.LOCK_METERS, ids)
        rows: Sequence[Row[Any]] = result.all()
        return rows

    def _settle(self, batch: Batch) -> None:
        rollups, rows = Rollups(), list[Values]()
        for settling in batch.settles:
            settlement = settling.settlement
            entry = self._entries.get(settlement.ledger_id)
            # What was never committed has no row.
            if entry is not None and entry.takes(settlement):
                self._changed.update(s for s in entry.subjects if s in self._meters)
                rows.append(entry.close(settlement, self._meters, rollups))
        if rows:
            self._connection.execute(statements.SETTLE, rows)
            rollups.write(self._connection)

    def _reserve(self, batch: Batch) -> tuple[list[Decision], list[Values]]:
        """Decide in order; what is granted counts for those that follow."""
        decisions, rows = [], []
        for reserving in batch.reserves:
            request = reserving.request
            limited: list[Limited] = [
                (self._limits[subject], self._meters[subject])
                for subject in request.subjects
                if subject in self._limits and subject in self._meters
            ]
            try:
                grant = admit(limited, request.demand, reserving.price, request.adapter, self._now)
            except LimitExceededError as error:
                decisions.append(Decision(reserving, error))
                continue
            for _, meter in limited:
                meter.running += 1
                counted = 0 if request.demand.batch else 1
                meter.add(self._now, requests=counted, tokens=grant.tokens, nanos=grant.nanos)
                self._changed.add(meter.subject)
            reserving.id = new_id(self._now)
            rows.append(self._row(reserving, grant, [meter.subject for _, meter in limited]))
            demand = request.demand
            capped = demand.max_tokens is None and grant.max_tokens < demand.room
            reservation = Reservation(
                reserving.id,
                grant.max_tokens if capped else None,
                ratelimit_headers(limited, self._now),
            )
            decisions.append(Decision(reserving, reservation))
        return decisions, rows

    def _row(self, reserving: Reserving, grant: Grant, limited: Sequence[Subject]) -> Values:
        request, price = reserving.request, reserving.price
        return {
            "id": reserving.id,
            "created_at": self._now,
            "tenant_id": request.tenant_id,
            "key_id": request.key_id,
            "answer_id": request.answer_id,
            "endpoint": request.endpoint,
            "state": RESERVED,
            "worker_id": self._worker_id,
            "choices": request.demand.answers,
            "base_model": request.base_model,
            "adapter": request.adapter,
            "version": request.version,
            "version_id": request.version_id,
            "digest": request.digest,
            "batch_id": request.batch_id,
            "finish_reason": RUNNING,
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "output_tokens": 0,
            "reserved_tokens": grant.tokens,
            "reserved_nanos": grant.nanos,
            "input_nanos": price.input,
            "cached_nanos": price.cached,
            "output_nanos": price.output,
            "cost_nanos": 0,
            "limited": [list(subject) for subject in limited] or None,
            "total_ms": 0.0,
            "preemptions": 0,
        }


def _meter(row: Row[Any]) -> MeterState:
    return MeterState(
        Subject(row.meter_subject, row.meter_subject_id),
        row.meter_tenant_id,
        *(getattr(row, f"meter_{name}") for name in statements.METERED),
    )


def _meter_values(meter: MeterState) -> Values:
    return {
        "b_subject": meter.subject.kind,
        "b_subject_id": meter.subject.id,
        **{f"b_{name}": getattr(meter, name) for name in statements.METERED},
    }
