"""Who is taken for dead: certain ends at once, silence only after a lease in which one could look oneself."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiWorker
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.reaper.process_identity import ProcessIdentity
from loraplex.platform.reaper.roll_call import GAP_SECONDS, LEASE_SECONDS, RollCall
from support.dead_workers import SERVICE, Seconds, ended_process, enter, pass_time, reserve
from support.meters import new_tenant
from support.services import sqlite_only


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def roll(database: Database, seconds: Seconds) -> RollCall:
    """This worker, on the list."""
    roll = RollCall(database, uuid4(), SERVICE, seconds)
    await roll.call()
    return roll


async def members(database: Database) -> list[ApiWorker]:
    async with database.main.reading(EVERY_TENANT) as session:
        return list(await session.scalars(select(ApiWorker).order_by(ApiWorker.started_at)))


async def test_a_worker_enters_beats_and_leaves(database: Database, roll: RollCall) -> None:
    (first,) = await members(database)
    assert (first.id, first.service) == (roll.id, SERVICE)
    assert ProcessIdentity(first.host, first.pid, first.birth) == ProcessIdentity.own()
    await roll.call()
    (second,) = await members(database)
    assert second.heartbeat_at > first.heartbeat_at
    assert second.started_at == first.started_at
    # Struck off by mistake, it enters again.
    await roll.strike([roll.id])
    await roll.call()
    assert [member.id for member in await members(database)] == [roll.id]
    await roll.leave()
    assert await members(database) == []


async def test_silence_is_death_after_a_lease(
    database: Database, roll: RollCall, seconds: Seconds
) -> None:
    tenant = await new_tenant(database)
    silent, idle = await enter(database), await enter(database)
    living = RollCall(database, uuid4(), SERVICE, seconds)
    await living.call()
    for worker in (silent, living.id):
        await reserve(database, tenant, worker)
    seen = await pass_time(seconds, roll, LEASE_SECONDS, living)
    assert not seen.orphaned
    assert not seen.done
    seen = await pass_time(seconds, roll, GAP_SECONDS, living)
    assert seen.orphaned == {silent}
    assert seen.done == {idle}
    await roll.strike(seen.done)
    assert idle not in {member.id for member in await members(database)}


async def test_a_database_that_was_away_kills_nobody(
    database: Database, roll: RollCall, seconds: Seconds
) -> None:
    silent = await enter(database)
    await reserve(database, await new_tenant(database), silent)
    await pass_time(seconds, roll, LEASE_SECONDS - GAP_SECONDS)
    seconds.now += 3600  # nobody could write
    assert not (await roll.call()).orphaned
    assert not (await pass_time(seconds, roll, LEASE_SECONDS)).orphaned
    assert (await pass_time(seconds, roll, GAP_SECONDS)).orphaned == {silent}


async def test_rows_of_nobody_on_the_list_are_orphans_after_a_lease(
    database: Database, roll: RollCall, seconds: Seconds
) -> None:
    unknown = uuid4()
    await reserve(database, await new_tenant(database), unknown)
    assert not (await roll.call()).orphaned
    seen = await pass_time(seconds, roll, LEASE_SECONDS + GAP_SECONDS)
    assert seen.orphaned == {unknown}
    assert not seen.done


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
async def test_an_ended_process_of_this_host_is_dead_at_once(
    database: Database, roll: RollCall
) -> None:
    own = ProcessIdentity.own()
    dead = await enter(database, ended_process())
    reused = await enter(database, own._replace(birth=own.birth - 1))
    await enter(database, own)
    await enter(database, own._replace(host="elsewhere", birth=own.birth - 1))
    tenant = await new_tenant(database)
    for worker in (dead, reused):
        await reserve(database, tenant, worker)
    assert (await roll.call()).orphaned == {dead, reused}


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    birth = int(stat.rpartition(")")[2].split()[19])
    identity = ProcessIdentity.own()._replace(pid=child.pid, birth=birth)
    assert not identity.has_ended()
    child.kill()
    assert child.stdin is not None
    child.stdin.close()
    while not identity.has_ended():
        pass  # it is not waited for: a zombie until then
    child.wait()
    assert identity.has_ended()


@sqlite_only
async def test_who_can_ask_its_engines_settles_for_the_dead(
    database: Database, roll: RollCall, seconds: Seconds
) -> None:
    tenant = await new_tenant(database)
    theirs, nobodys = await enter(database, service="b"), await enter(database, service="c")
    for worker in (theirs, nobodys):
        await reserve(database, tenant, worker)
    sibling = RollCall(database, uuid4(), "b", seconds)
    seen = await pass_time(seconds, roll, LEASE_SECONDS + GAP_SECONDS, sibling)
    assert seen.orphaned == {nobodys}
    assert (await sibling.call()).orphaned == {theirs, nobodys}
