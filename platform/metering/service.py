"""Owns the way of reservations and settlements to the database: what arrives while one transaction runs goes into the
next, all of it together."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.failures import is_away, is_conflict
from loraplex.platform.errors import DatabaseUnavailableError
from loraplex.platform.metering.prices import Prices
from loraplex.platform.metering.settlement import SETTLED, Settlement
from loraplex.platform.metering.tally import Tally
from loraplex.platform.metering.transaction import Decision, Transaction
from loraplex.platform.metering.work import (
    Acknowledge,
    Batch,
    Request,
    Reservation,
    Reserving,
    Settling,
)
from loraplex.platform.metering.writer import UnsureError, writer

# Of each kind in one transaction; more wait for the next, so that locks are never held for long.
BATCH = 128
# A request does not wait longer for its reservation.
PATIENCE_SECONDS = 10.0
# While the database is away it is asked this often; new requests ask at once, but no oftener than the first.
LEAST_PAUSE_SECONDS = 0.1
RETRY_SECONDS = 2.0
# A transaction that others were in the way of is tried again, after a random part of this time times the attempts.
CONFLICT_SECONDS = 0.02
CONFLICT_ATTEMPTS = 10
# About 100 MB of settlements while the database is away; then the oldest go, which is logged.
MAX_PENDING = 100_000
# The last settlements are written within this time at the end of the process, or not at all: the supervisor waits 5 s
# longer than requests may take. What is not written is reaped.
CLOSE_SECONDS = 4.0
CANCELLED = "cancelled"


class Metering:
    """The meters and the ledger, as requests use them. All methods belong to the loop that runs `run`."""

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        *,
        prices: Prices | None = None,
        tally: Tally | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`worker_id` is of this process, in rows that it has reserved, and `tally` its notes."""
        self._writer = writer(database.main)
        self._worker_id = worker_id
        self._prices = prices or Prices(database)
        self._tally = tally
        self._clock = clock
        self._reserves: deque[Reserving] = deque()
        self._settles: deque[Settling] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    async def reserve(self, request: Request) -> Reservation:
        """Count a request against all limits and write its ledger row, before it runs. The caller must settle it.

        Raises:
            LimitExceededError: a limit does not admit it; nothing was counted or written.
            DatabaseUnavailableError: it could not be written.
        """
        price = await self._prices.of(request.base_model, request.adapter_id)
        reserving = Reserving(request, price, asyncio.get_running_loop().create_future())
        self._reserves.append(reserving)
        self._wake.set()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await reserving.done
        except (TimeoutError, asyncio.CancelledError) as error:
            done = reserving.done
            if done.done() and not done.cancelled() and done.exception() is None:
                # It was granted in the same moment.
                self._take_back(reserving)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailableError from None
            raise

    async def settle(self, settlement: Settlement) -> None:
        """Close a ledger row and return when that is committed; nothing happens to one that is closed already."""
        await self.settle_soon(settlement).ended()

    def settle_soon(
        self, settlement: Settlement, acknowledge: Acknowledge | None = None
    ) -> Settling:
        """Close a ledger row without waiting for it. `acknowledge` is told when that is committed."""
        settling = Settling(settlement, acknowledge)
        self._settles.append(settling)
        self._wake.set()
        return settling

    def note(self, row: UUID, choice: int, prompt: int, counts: tuple[int, int, int]) -> None:
        """See `Tally.note`; until the row is settled."""
        if self._tally is not None:
            self._tally.note(row, choice, prompt, counts)

    async def run(self) -> None:
        """Write what comes, until `close`; a database that is away is asked again."""
        try:
            while not (self._closing and not self._settles):
                if not (self._reserves or self._settles):
                    await self._wake.wait()
                self._wake.clear()
                batch = self._take()
                if batch.settles or batch.reserves:
                    await self._write(batch)
        finally:
            await self._writer.close()

    async def close(self, running: asyncio.Task[None]) -> None:
        """Write what is left and end `running`, the task of `run`. No request may run any more."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({running}, timeout=CLOSE_SECONDS)
        if self._settles:
            structlog.get_logger().error("settlements were not written", rows=len(self._settles))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.close()

    def _take(self) -> Batch:
        settles = [self._settles.popleft() for _ in range(min(BATCH, len(self._settles)))]
        reserves = [self._reserves.popleft() for _ in range(min(BATCH, len(self._reserves)))]
        return Batch(settles, [reserving for reserving in reserves if not reserving.done.done()])

    async def _write(self, batch: Batch) -> None:
        attempt = 0
        while True:
            attempt += 1
            kept = self._writer.kept
            try:
                decisions = await self._commit(batch)
            except Exception as error:
                if is_conflict(error) and attempt < CONFLICT_ATTEMPTS:
                    await asyncio.sleep(random.uniform(0, attempt * CONFLICT_SECONDS))  # noqa: S311  # no secret
                elif kept and attempt == 1 and is_away(error):
                    pass  # the connection may be of a server that has been restarted since
                elif isinstance(error, UnsureError) or is_away(error) or is_conflict(error):
                    await self._postpone(batch, error)
                    return
                else:
                    await self._isolate(batch, error)
                    return
            else:
                self._conclude(batch, decisions)
                return

    async def _commit(self, batch: Batch) -> list[Decision]:
        try:
            return await self._writer.run(
                lambda connection: Transaction(connection, self._worker_id, self._clock).write(
                    batch
                )
            )
        except UnsureError:
            for reserving in batch.reserves:
                self._take_back(reserving)
            raise

    def _conclude(self, batch: Batch, decisions: Sequence[Decision]) -> None:
        """It is committed: tell everybody."""
        written: dict[Acknowledge, list[bytes]] = {}
        for settling in batch.settles:
            settling.end()
            if self._tally is not None:
                self._tally.forget(settling.settlement.ledger_id)
            if settling.acknowledge is not None:
                accounts = written.setdefault(settling.acknowledge, [])
                accounts.append(settling.settlement.ledger_id.bytes)
        for acknowledge, accounts in written.items():
            acknowledge(accounts)
        for reserving, result in decisions:
            if isinstance(result, Reservation):
                if reserving.done.done():
                    self._take_back(reserving)
                else:
                    reserving.done.set_result(result)
            elif not reserving.done.done():
                reserving.done.set_exception(result)

    def _take_back(self, reserving: Reserving) -> None:
        """Nobody waits for it any more; its row, if there is one, must not stay."""
        if reserving.id is not None:
            self.settle_soon(Settlement(reserving.id, SETTLED, CANCELLED, 0, 0, 0, 0.0))

    async def _postpone(self, batch: Batch, error: Exception) -> None:
        """The database is away: who wants to begin is told so, what has ended is kept."""
        self._settles.extendleft(reversed(batch.settles))
        for reserving in batch.reserves:
            if not reserving.done.done():
                reserving.done.set_exception(DatabaseUnavailableError())
        log = structlog.get_logger()
        log.error("writing the ledger failed", error=str(error), pending=len(self._settles))
        if (lost := len(self._settles) - MAX_PENDING) > 0:
            for _ in range(lost):
                self._settles.popleft().end(error)
            log.error("settlements were lost", rows=lost)
        await asyncio.sleep(LEAST_PAUSE_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), RETRY_SECONDS)

    async def _isolate(self, batch: Batch, error: Exception) -> None:
        """Something in it cannot be written, ever: the rest must not suffer for it."""
        single = len(batch.settles) + len(batch.reserves) == 1
        for settling in batch.settles:
            if single:
                structlog.get_logger().error("a settlement was lost", error=str(error))
                settling.end(error)
            else:
                await self._write(Batch([settling], []))
        for reserving in batch.reserves:
            if not single:
                await self._write(Batch([], [reserving]))
            elif not reserving.done.done():
                reserving.done.set_exception(error)
