"""What happens to requests when their engine ends, hangs, or comes back."""

import asyncio

import pytest

from loraplex.platform.engines import client as client_module
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.errors import EngineUnavailableError
from support.scripted_engine import CRASHES, EngineThread, Start, job, read, soon, until


async def replace(life: EngineThread, engines: Start, **options: float) -> EngineThread:
    """End one life of the engine and begin the next."""
    await asyncio.to_thread(life.stop)
    return engines(**options)


async def test_what_was_streamed_in_part_ends_with_an_error_at_once(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.01)
    generation = await client.generate([job(tokens=100_000)])
    await generation.next()
    await asyncio.to_thread(life.stop)
    # By the closed connection: here nobody misses beats.
    with pytest.raises(EngineUnavailableError, match="stopped while working on this request"):
        await soon(read(generation))
    assert client.inflight == 0
    assert not client.ready


async def test_what_nobody_has_read_yet_starts_afresh_on_the_next_engine(
    engines: Start, client: EngineClient
) -> None:
    first = engines(step_seconds=0.01)
    # For the first engine twenty seconds of work, for the second less than one.
    collecting = await client.generate([job(tokens=2002), job(5, tokens=2002)])
    await until(lambda: all(slot.pending for slot in collecting.slots))
    second = await replace(first, engines)
    deltas = await soon(collecting.collect())
    # Not one letter twice, though part of it had arrived from the first engine.
    assert [delta.text for delta in deltas] == ["abcdefghijklmnopqrstuvwxyz" * 77] * 2
    assert second.engine.seen == {(1, 2): 1, (5,): 1}


async def test_of_one_request_the_read_part_decides(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.01)
    generation = await client.generate([job(tokens=100_000), job(tokens=100_000)])
    while not generation.slots[0].delivered:
        await generation.next()
    await replace(life, engines)
    with pytest.raises(EngineUnavailableError):
        await read(generation)
    generation.close()
    assert client.inflight == 0


async def test_a_request_that_arrives_between_two_engines_waits(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    await until(lambda: client.ready)
    await asyncio.to_thread(life.stop)
    await until(lambda: not client.ready)
    waiting = asyncio.create_task(client.generate([job(tokens=2)]))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    engines()
    assert [d.text for d in await (await waiting).collect()] == ["ab"]


async def test_but_not_for_ever(endpoint: str) -> None:
    impatient = EngineClient("tiny", endpoint, patience=0.3)
    await impatient.start()
    try:
        with pytest.raises(EngineUnavailableError, match="The engine of 'tiny' is not running"):
            await soon(impatient.generate([job()]))
        assert impatient.inflight == 0
    finally:
        await impatient.close()


async def test_an_exception_in_a_step_ends_the_engine_after_telling_the_clients(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.01)
    generation = await client.generate([job(CRASHES)])
    await generation.next()
    with pytest.raises(EngineUnavailableError):
        await read(generation)
    await until(lambda: life.error is not None)
    assert str(life.error) == "scripted crash"


async def test_a_request_that_crashes_every_engine_is_tried_twice(
    engines: Start, client: EngineClient
) -> None:
    first = engines(step_seconds=0.01)
    poison = await client.generate([job(CRASHES)])
    result = asyncio.create_task(poison.collect())
    await until(lambda: first.error is not None)
    second = await replace(first, engines, step_seconds=0.01)
    with pytest.raises(EngineUnavailableError):
        await soon(result)
    third = await replace(second, engines)
    assert [d.text for d in await (await client.generate([job(tokens=1)])).collect()] == ["a"]
    assert third.engine.seen == {(1, 2): 1}


async def test_a_silent_engine_counts_as_lost_and_gets_its_aborts_when_it_wakes(
    engines: Start, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = engines(step_seconds=0.01)
    generation = await client.generate([job(tokens=100_000)])
    await generation.next()
    # Less than a beat: every gap is silence.
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.2)
    with pytest.raises(EngineUnavailableError):
        await soon(read(generation))
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 600.0)
    await until(lambda: len(life.engine.aborted) == 1)
    # The next beat of the same engine makes it usable again.
    assert [d.text for d in await (await client.generate([job(tokens=1)])).collect()] == ["a"]


async def test_closing_the_client_fails_what_is_in_flight(engines: Start, endpoint: str) -> None:
    engines(step_seconds=0.01)
    client = EngineClient("base", endpoint)
    await client.start()
    generation = await client.generate([job(tokens=100_000)])
    await client.close()
    with pytest.raises(EngineUnavailableError, match="shutting down"):
        await generation.collect()
