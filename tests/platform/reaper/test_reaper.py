"""What becomes of requests whose API worker has died: what the engine says, once, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from loraplex.engine.request import Timings
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiWorker, LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import Final
from loraplex.platform.metering.settlement import REAPED, RESERVED, SETTLED
from loraplex.platform.metering.tally import Tallies, Tally
from loraplex.platform.reaper.reaper import AWAY_SECONDS, UNKNOWN_SECONDS, Reaper
from loraplex.platform.reaper.roll_call import BEAT_SECONDS, GAP_SECONDS, LEASE_SECONDS, RollCall
from support.dead_workers import SERVICE, RememberingEngines, Seconds, enter, pass_time, reserve
from support.meters import ended, entries, meter_of, metering, new_tenant, rollups

DEAD = LEASE_SECONDS + GAP_SECONDS
TIMINGS = Timings(0.25, 0.5, 0.125, 1.0, 1, None)


class Case:
    """A worker that looks after others, with its engine and its clock."""

    def __init__(self, database: Database, reaper: Reaper, roll: RollCall) -> None:
        self.database = database
        self.reaper = reaper
        self.roll = roll
        self.engines = RememberingEngines()
        self.seconds = Seconds()

    async def after(self, span: float) -> None:
        """Let time pass, and do once what a worker does all the time."""
        await self.reaper.reap(await pass_time(self.seconds, self.roll, span))

    async def row(self) -> LedgerEntry:
        (row,) = await entries(self.database)
        return row

    async def workers(self) -> set[UUID]:
        async with self.database.main.reading(EVERY_TENANT) as session:
            return set(await session.scalars(select(ApiWorker.id)))


@pytest.fixture
async def case(database: Database, tmp_path: Path) -> AsyncIterator[Case]:
    async with metering(database) as own:
        engines, seconds = RememberingEngines(), Seconds()
        roll = RollCall(database, uuid4(), SERVICE, seconds)
        # The ignore: of the directory it needs only these methods.
        reaper = Reaper(database, roll, engines, own, Tallies(tmp_path), seconds)  # type: ignore[arg-type]  # a part of the port
        case = Case(database, reaper, roll)
        case.engines, case.seconds = engines, seconds
        yield case


def final(row: UUID, choice: int, reason: str, output: int, prompt: int = 0) -> Final:
    return Final(row.bytes, choice, prompt, reason, 5, 2, output, 1.5 + choice, TIMINGS, "t/other")


async def test_a_row_is_settled_with_what_the_engine_knows(case: Case, database: Database) -> None:
    tenant = await new_tenant(database, max_concurrent=10)
    dead = await enter(database)
    row_id = await reserve(database, tenant, dead, answers=3)
    case.engines.finals_of = [
        final(row_id, 2, "lost", 4, prompt=1),
        final(row_id, 0, "length", 5),
        final(row_id, 1, "stop", 3),
    ]
    assert (await meter_of(database, tenant)).running == 1
    await case.after(DEAD)

    row = await case.row()
    assert (row.state, row.finish_reason) == (REAPED, "lost")
    # Two prompts, one of them answered twice.
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (10, 4, 12)
    assert (row.total_ms, row.queue_ms, row.decode_ms, row.evicted_by) == (
        3500,
        250,
        1000,
        "t/other",
    )
    assert row.first_token_ms is None
    assert (await meter_of(database, tenant)).running == 0
    assert {(each.requests, each.output_tokens) for each in await rollups(database)} == {(1, 12)}
    assert case.engines.acknowledged == [row_id.bytes]
    # It has left nothing more.
    await case.after(1)
    assert await case.workers() == {case.roll.id}


async def test_what_still_runs_is_left_alone(case: Case, database: Database) -> None:
    row_id = await reserve(database, await new_tenant(database), await enter(database))
    case.engines.running = [row_id.bytes]
    await case.after(DEAD)
    await case.after(UNKNOWN_SECONDS + AWAY_SECONDS)
    assert (await case.row()).state == RESERVED
    case.engines.running, case.engines.finals_of = [], [final(row_id, 0, "cancelled", 7)]
    await case.after(1)
    row = await case.row()
    assert (row.state, row.finish_reason, row.output_tokens) == (REAPED, "cancelled", 7)


async def test_what_the_engine_does_not_know_is_lost_after_a_second_lease(
    case: Case, database: Database
) -> None:
    tenant = await new_tenant(database, max_concurrent=10)
    await reserve(database, tenant, await enter(database))
    await case.after(DEAD)
    await case.after(UNKNOWN_SECONDS - GAP_SECONDS)
    assert (await case.row()).state == RESERVED
    await case.after(2 * GAP_SECONDS)
    row = await case.row()
    assert (row.state, row.finish_reason) == (REAPED, "lost")
    assert (row.prompt_tokens, row.output_tokens) == (0, 0)
    assert (await meter_of(database, tenant)).running == 0


async def test_choices_that_never_arrived_do_not_keep_a_row_open(
    case: Case, database: Database
) -> None:
    row_id = await reserve(database, await new_tenant(database), await enter(database), answers=2)
    case.engines.finals_of = [final(row_id, 0, "lost", 7)]
    await case.after(DEAD)
    assert (await case.row()).state == RESERVED
    await case.after(UNKNOWN_SECONDS + GAP_SECONDS)
    row = await case.row()
    assert (row.state, row.output_tokens) == (REAPED, 7)


async def test_an_engine_that_is_away_is_waited_for(case: Case, database: Database) -> None:
    row_id = await reserve(database, await new_tenant(database), await enter(database))
    case.engines.away = True
    await case.after(DEAD)
    await case.after(AWAY_SECONDS - GAP_SECONDS)
    assert (await case.row()).state == RESERVED
    case.engines.away, case.engines.finals_of = False, [final(row_id, 0, "stop", 3)]
    await case.after(1)
    assert (await case.row()).output_tokens == 3


async def test_but_not_for_ever(case: Case, database: Database) -> None:
    await reserve(database, await new_tenant(database), await enter(database))
    case.engines.away = True
    await case.after(DEAD)
    await case.after(AWAY_SECONDS + GAP_SECONDS)
    assert (await case.row()).state == REAPED


@pytest.mark.parametrize("away", [False, True])
async def test_what_no_engine_knows_is_settled_with_what_the_worker_noted(
    case: Case, database: Database, tmp_path: Path, *, away: bool
) -> None:
    """Engine and worker have died together."""
    tenant = await new_tenant(database)
    dead = await enter(database)
    row_id = await reserve(database, tenant, dead, answers=3)
    tally = Tally(tmp_path, dead)
    tally.note(row_id, 0, 0, (5, 2, 100))
    tally.note(row_id, 1, 0, (5, 2, 44))
    tally.note(uuid4(), 0, 0, (5, 2, 7))
    tally.close()
    if away:
        case.engines.away = True
    else:
        # This one had ended before, and its end got around.
        case.engines.finals_of = [final(row_id, 0, "length", 101)]
    await case.after(DEAD)
    assert (await case.row()).state == RESERVED
    await case.after(AWAY_SECONDS if away else UNKNOWN_SECONDS)
    row = await case.row()
    assert (row.state, row.finish_reason) == (REAPED, "lost")
    assert (row.prompt_tokens, row.cached_tokens) == (5, 2)
    assert row.output_tokens == (144 if away else 145)
    await case.after(BEAT_SECONDS)
    assert await case.workers() == {case.roll.id}
    assert Tallies(tmp_path).of(dead) == []


async def test_several_at_once_settle_once_and_the_worker_itself_is_right(
    case: Case, database: Database, tmp_path: Path
) -> None:
    tenant, slow = await new_tenant(database, max_concurrent=10), await enter(database)
    row_id = await reserve(database, tenant, slow)
    case.engines.finals_of = [final(row_id, 0, "lost", 4)]
    async with metering(database) as other:
        roll = RollCall(database, uuid4(), SERVICE, case.seconds)
        second = Reaper(database, roll, case.engines, other, Tallies(tmp_path), case.seconds)  # type: ignore[arg-type]  # as above
        seen = await pass_time(case.seconds, case.roll, DEAD, roll)
        await asyncio.gather(case.reaper.reap(seen), second.reap(seen))
    assert (await meter_of(database, tenant)).running == 0
    assert {(each.requests, each.output_tokens) for each in await rollups(database)} == {(1, 4)}
    # It was only away.
    async with metering(database, worker=slow) as own:
        await own.settle(ended(row_id, output=6))
    row = await case.row()
    assert (row.state, row.output_tokens) == (SETTLED, 6)
    assert (await meter_of(database, tenant)).running == 0
    assert {(each.requests, each.output_tokens) for each in await rollups(database)} == {(1, 6)}


async def test_the_heartbeat_goes_on_while_an_engine_takes_its_time(
    case: Case, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraplex.platform.reaper.reaper.BEAT_SECONDS", 0.01)
    row_id = await reserve(database, await new_tenant(database), await enter(database))
    case.engines.finals_of = [final(row_id, 0, "stop", 3)]
    asked, answer = asyncio.Event(), asyncio.Event()
    finals = case.engines.finals

    async def slowly(*args: object) -> object:
        asked.set()
        await answer.wait()
        return await finals(*args)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(case.engines, "finals", slowly)
    await pass_time(case.seconds, case.roll, DEAD)
    ending = asyncio.Event()
    running = asyncio.create_task(case.reaper.run(ending))
    async with asyncio.timeout(60):
        await asked.wait()

        async def beat() -> object:
            async with database.main.reading(EVERY_TENANT) as session:
                return await session.scalar(
                    select(ApiWorker.heartbeat_at).where(ApiWorker.id == case.roll.id)
                )

        before = await beat()
        while await beat() == before:  # noqa: ASYNC110 - a database sets no events
            await asyncio.sleep(0.01)
        answer.set()
        while (await case.row()).state == RESERVED:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        ending.set()
        await running
