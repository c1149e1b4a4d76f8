"""Owns the list of living API workers: each one's heartbeat, and whom the others take for dead.

A worker is dead when its process has ended for certain, or its heartbeat has stood still for a lease while whoever
looks has itself been able to write and read all the time: a database that was away kills nobody. No clocks are
compared, neither of two hosts nor before and after one was set.
"""

import math
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiWorker, LedgerEntry
from loraplex.platform.metering.settlement import RESERVED
from loraplex.platform.reaper.process_identity import ProcessIdentity

BEAT_SECONDS = 2.0
# Garbage collections, imports and full event loops have held workers up for a second or two, never for this long.
LEASE_SECONDS = 15.0
# Whoever could not look for so long does not know who was silent meanwhile.
GAP_SECONDS = 3 * BEAT_SECONDS


class _Member(NamedTuple):
    """A row of the list."""

    id: UUID
    process: ProcessIdentity
    service: str
    heartbeat_at: datetime


class Roll(NamedTuple):
    """What one look has shown.

    Attributes:
        orphaned: ids of dead workers with reservations that this worker is to settle. None stands for those that
            belong to no worker.
        done: dead workers that have left none.
    """

    orphaned: frozenset[UUID | None]
    done: frozenset[UUID]


class RollCall:
    """This worker's place in the list, and its view of the others."""

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        service: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`service`: the same for workers that talk to the same engines. `clock` tells seconds."""
        self.id = worker_id
        self._database = database
        self._service = service
        self._process = ProcessIdentity.own()
        self._seen: dict[UUID | None, tuple[datetime | None, float]] = {}  # heartbeat, since when
        self._looked_at = -math.inf
        self._clock = clock

    async def call(self) -> Roll:
        """Write a heartbeat and look at the others. Enters this worker if it is not there.

        Raises:
            SQLAlchemyError, OSError: the database is not there.
        """
        async with self._database.main.transaction() as connection:
            await self._beat(connection)
            # In this order: who reserves has entered before.
            reserving = await _reserving(connection)
            members = {member.id: member for member in await _members(connection)}
        return self._look(self._clock(), members, reserving)

    async def strike(self, dead: Collection[UUID]) -> None:
        """Take workers off the list of whom nothing is left."""
        async with self._database.main.transaction() as connection:
            await connection.execute(delete(ApiWorker).where(ApiWorker.id.in_(dead)))

    async def leave(self) -> None:
        """This worker ends, and leaves nothing behind."""
        await self.strike([self.id])

    async def _beat(self, connection: AsyncConnection) -> None:
        now = utc_now()
        beat = update(ApiWorker).where(ApiWorker.id == self.id).values(heartbeat_at=now)
        if (await connection.execute(beat)).rowcount:
            return
        host, pid, birth = self._process
        row = {
            "id": self.id,
            "host": host,
            "pid": pid,
            "birth": birth,
            "service": self._service,
            "started_at": now,
            "heartbeat_at": now,
        }
        await connection.execute(insert(ApiWorker).values(row))

    def _look(
        self, now: float, members: dict[UUID, _Member], reserving: frozenset[UUID | None]
    ) -> Roll:
        if now - self._looked_at > GAP_SECONDS:
            self._seen.clear()
        self._looked_at = now
        beats: dict[UUID | None, datetime | None] = dict.fromkeys(
            reserving
        )  # the unknown have none
        beats |= {member.id: member.heartbeat_at for member in members.values()}
        del beats[self.id]
        before, self._seen = self._seen, {}
        silent: set[UUID | None] = set()
        for worker_id, beat in beats.items():
            last, since = before.get(worker_id, (beat, now))
            self._seen[worker_id] = beat, since if beat == last else now
            if now - self._seen[worker_id][1] > LEASE_SECONDS:
                silent.add(worker_id)
        dead = silent | {member.id for member in members.values() if member.process.has_ended()}
        services = {member.service for member in members.values() if member.id not in dead}
        ours = frozenset(
            worker_id
            for worker_id in dead
            # Those who talk to the same engines can ask them; without any, nobody can.
            if worker_id not in members
            or members[worker_id].service == self._service
            or members[worker_id].service not in services
        )
        done = frozenset(worker_id for worker_id in members if worker_id in ours - reserving)
        return Roll(ours & reserving, done)


async def _members(connection: AsyncConnection) -> list[_Member]:
    query = select(
        ApiWorker.id,
        ApiWorker.host,
        ApiWorker.pid,
        ApiWorker.birth,
        ApiWorker.service,
        ApiWorker.heartbeat_at,
    )
    return [
        _Member(
            row.id, ProcessIdentity(row.host, row.pid, row.birth), row.service, row.heartbeat_at
        )
        for row in await connection.execute(query)
    ]


async def _reserving(connection: AsyncConnection) -> frozenset[UUID | None]:
    """Workers with reservations."""
    # As a word of the query: the index holds only rows of this state.
    reserved = LedgerEntry.state == literal_column(f"'{RESERVED}'")
    return frozenset(
        await connection.scalars(select(LedgerEntry.worker_id).where(reserved).distinct())
    )
