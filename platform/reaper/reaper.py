"""Owns settling requests whose API worker has died: every worker looks for them and asks the engines what became of
them. Several may do so at once, as a row is settled once."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, literal_column, or_, select

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.engines.messages import Final, FinalsOf
from loraplex.platform.metering.settlement import RESERVED, Settlement
from loraplex.platform.reaper.conclusion import Orphan, conclude
from loraplex.platform.reaper.roll_call import BEAT_SECONDS, LEASE_SECONDS, Roll, RollCall

# What an engine does not know is lost after this time: a message may still have been on its way to it.
UNKNOWN_SECONDS = LEASE_SECONDS
# An engine that is not there gets so long to come back; it will know nothing, but it may only be busy.
AWAY_SECONDS = 60.0
# Rows of one round; a worker cannot leave more open for one engine (`engines.client.MAX_INFLIGHT`).
MOST = 4096


class Settler(Protocol):
    """What is needed of `metering.service.Metering`."""

    async def settle(self, settlement: Settlement) -> None: ...


class Notes(Protocol):
    """What is needed of `metering.tally.Tallies`."""

    def of(self, worker_id: UUID) -> list[Final]: ...

    def remove(self, workers: Collection[UUID]) -> None: ...


class Reaper:
    """One per API worker; its rounds are also the worker's heartbeat."""

    def __init__(
        self,
        database: Database,
        roll: RollCall,
        engines: EngineDirectory,
        settler: Settler,
        notes: Notes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notes`: what dead workers have left beside the database. `clock` tells seconds."""
        self._notes = notes
        self._clock = clock
        self._database = database
        self._roll = roll
        self._engines = engines
        self._settler = settler
        self._orphans: dict[UUID, float] = {}  # since when they are known
        self._log = structlog.get_logger()

    async def run(self, ending: asyncio.Event) -> None:
        """A heartbeat every `BEAT_SECONDS`, until `ending`. Settling waits for engines, which no heartbeat may."""
        reaping: asyncio.Task[None] | None = None
        while not ending.is_set():
            roll = await self.call()
            if roll is not None and (reaping is None or reaping.done()):
                reaping = asyncio.create_task(self._attempt(roll))
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), BEAT_SECONDS)
        if reaping is not None:
            await reaping

    async def call(self) -> Roll | None:
        """A heartbeat; None if the database is not there."""
        try:
            return await self._roll.call()
        except Exception as error:
            # Whatever a driver raises, the next one must come.
            self._log.error("the heartbeat of this worker failed", error=str(error))
            return None

    async def reap(self, roll: Roll) -> None:
        """Settle what can be settled of what dead workers have left.

        Raises:
            Exception: the database is not there.
        """
        if roll.orphaned:
            await self._reap(roll.orphaned)
        elif self._orphans:
            self._orphans.clear()
        if roll.done:
            await self._roll.strike(roll.done)
            self._notes.remove(roll.done)

    async def leave(self) -> None:
        """Tell the others that this worker ends in order: after its last settlement."""
        try:
            await self._roll.leave()
        except Exception as error:
            self._log.error("leaving the list of workers failed", error=str(error))

    async def _attempt(self, roll: Roll) -> None:
        try:
            await self.reap(roll)
        except Exception as error:
            self._log.error("settling requests of dead workers failed", error=str(error))

    async def _reap(self, workers: Collection[UUID | None]) -> None:
        orphans, now = await self._find(workers), self._clock()
        self._orphans = {orphan.id: self._orphans.get(orphan.id, now) for orphan in orphans}
        by_base: defaultdict[str, list[Orphan]] = defaultdict(list)
        for orphan in orphans:
            by_base[orphan.base_model].append(orphan)
        for base, rows in by_base.items():
            answer = await self._engines.finals(base, [row.id.bytes for row in rows])
            await self._settle(base, await self._decide(rows, answer))

    async def _find(self, workers: Collection[UUID | None]) -> list[Orphan]:
        whose: list[ColumnElement[bool]] = [
            LedgerEntry.worker_id.in_([worker for worker in workers if worker is not None])
        ]
        if None in workers:
            whose.append(LedgerEntry.worker_id.is_(None))
        query = (
            select(
                LedgerEntry.id,
                LedgerEntry.base_model,
                LedgerEntry.created_at,
                LedgerEntry.choices,
                LedgerEntry.worker_id,
            )
            # As a word of the query: the index holds only rows of this state.
            .where(LedgerEntry.state == literal_column(f"'{RESERVED}'"), or_(*whose))
            .order_by(LedgerEntry.id)
            .limit(MOST)
        )
        async with self._database.main.connection() as connection:
            return [Orphan(*row) for row in await connection.execute(query)]

    async def _decide(self, rows: Sequence[Orphan], answer: FinalsOf | None) -> list[Settlement]:
        """What can be closed now. What no engine knows is closed with what its worker noted."""
        known: defaultdict[bytes, list[Final]] = defaultdict(list)
        running: set[bytes] = set()
        patience = AWAY_SECONDS
        if answer is not None:
            patience = UNKNOWN_SECONDS
            running.update(answer.running)
            for final in answer.finals:
                known[final.account].append(final)
        now, settlements = self._clock(), []
        noted = _Noted(self._notes)
        for row in rows:
            account = row.id.bytes
            if account in running:
                continue  # the engine finds out that its worker is gone, or it is not
            finals = known[account]
            if len(finals) < row.choices:
                if now - self._orphans[row.id] < patience:
                    continue
                finals = finals + await noted.beside(row, finals)
            settlements.append(conclude(row, finals, utc_now()))
        return settlements

    async def _settle(self, base: str, settlements: Sequence[Settlement]) -> None:
        if not settlements:
            return
        await asyncio.gather(*(self._settler.settle(each) for each in settlements))
        self._engines.acknowledge(base, [each.ledger_id.bytes for each in settlements])
        tokens = sum(each.output_tokens for each in settlements)
        self._log.warning(
            "requests of dead workers were settled", rows=len(settlements), output_tokens=tokens
        )


class _Noted:
    """The notes of one round, read once for each worker."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._known: dict[UUID, dict[bytes, list[Final]]] = {}

    async def beside(self, row: Orphan, finals: Sequence[Final]) -> list[Final]:
        """Of the choices of a row that have no final."""
        if row.worker_id is None:
            return []
        if row.worker_id not in self._known:
            found: defaultdict[bytes, list[Final]] = defaultdict(list)
            for final in await asyncio.to_thread(self._notes.of, row.worker_id):
                found[final.account].append(final)
            self._known[row.worker_id] = found
        ended = {final.choice for final in finals}
        noted = self._known[row.worker_id].get(row.id.bytes, ())
        return [final for final in noted if final.choice not in ended]
