"""Owns what tests of the reaper share: a monotonic clock that only a test moves, workers on the list, reservations they
have left, and an engine that remembers what it is told to."""

import json
import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID

from uuid_utils.compat import uuid7

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiWorker
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import Final, FinalsOf
from loraplex.platform.reaper.process_identity import ProcessIdentity
from loraplex.platform.reaper.roll_call import BEAT_SECONDS, Roll, RollCall
from support.meters import metering, request

SERVICE = "service-of-this-test"


class Seconds:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RememberingEngines:
    """An engine directory of which the reaper needs three things."""

    service = SERVICE

    def __init__(self) -> None:
        self.finals_of: list[Final] = []
        self.running: list[bytes] = []
        self.away = False
        self.acknowledged: list[bytes] = []

    async def finals(self, base: str, accounts: Sequence[bytes]) -> FinalsOf | None:
        if self.away:
            return None
        known = [final for final in self.finals_of if final.account in accounts]
        return FinalsOf(0, known, [one for one in self.running if one in accounts])

    def acknowledge(self, base: str, accounts: Sequence[bytes]) -> None:
        self.acknowledged += accounts


async def pass_time(seconds: Seconds, roll: RollCall, span: float, *others: RollCall) -> Roll:
    """Call as often as a worker does for a span of time; what was seen last."""
    end = seconds.now + span
    while seconds.now < end:
        seconds.now = min(seconds.now + BEAT_SECONDS, end)
        for other in others:
            await other.call()
        last = await roll.call()
    return last


async def enter(
    database: Database, process: ProcessIdentity | None = None, service: str = SERVICE
) -> UUID:
    """A worker that is on the list and says nothing more; of a process of another host unless one is given."""
    host, pid, birth = process or ProcessIdentity("elsewhere", 1, 1)
    worker = ApiWorker(id=uuid7(), host=host, pid=pid, birth=birth, service=service)
    async with database.main.writing(EVERY_TENANT) as session:
        session.add(worker)
    return worker.id


async def reserve(database: Database, tenant: UUID, worker: UUID, answers: int = 1) -> UUID:
    """A reservation that a worker has left; the id of its row."""
    async with metering(database, worker=worker) as its:
        return (await its.reserve(request(tenant, answers=answers))).id


def ended_process() -> ProcessIdentity:
    """One of this host that has ended, and whose number may be anybody's now."""
    script = (
        "from loraplex.platform.reaper.process_identity import ProcessIdentity;"
        "import json; print(json.dumps(ProcessIdentity.own()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    host, pid, birth = json.loads(done.stdout)
    return ProcessIdentity(host, pid, birth)
