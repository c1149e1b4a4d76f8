"""The client and the engine's loop together: streaming, refusals, aborts, slow readers."""

import asyncio

import pytest

from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import NO_ROOM, Structure
from loraplex.platform.engines import client as client_module
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.generation import GenerationFailedError, Job
from loraplex.platform.errors import BadRequestError, EngineUnavailableError, StructuresFullError
from support.patience import PATIENCE_SECONDS
from support.scripted_engine import FAILS, FULL, REFUSED, Start, job, read, until


async def test_streams_every_job_of_a_request(engines: Start, client: EngineClient) -> None:
    engines(step_seconds=0.005)
    generation = await client.generate([job(tokens=5), job(1, tokens=3), job(tokens=1)])
    assert await read(generation) == ["abcde", "abc", "a"]
    assert client.inflight == 0


async def test_collects_whole_answers_in_the_order_of_the_jobs(
    engines: Start, client: EngineClient
) -> None:
    engines()
    deltas = await (await client.generate([job(tokens=4), job(1, tokens=2)])).collect()
    assert [(d.text, d.token_ids, d.finish_reason, d.output_tokens) for d in deltas] == [
        ("abcd", (1, 2, 3, 4), "length", 4),
        ("ab", (1, 2), "length", 2),
    ]


async def test_a_refused_job_ends_the_whole_request_and_nothing_runs_on(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.01)
    with pytest.raises(BadRequestError) as caught:
        await client.generate([job(tokens=1000), job(REFUSED)])
    assert (caught.value.message, caught.value.param, caught.value.code) == (
        "No.",
        "prompt",
        "refused",
    )
    await until(lambda: not life.engine.running)
    assert client.inflight == 0


async def test_no_room_for_a_structure_is_no_fault_of_the_request(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    params = SamplingParams(max_tokens=5, structure=Structure("regex", "[a-z]+"))
    with pytest.raises(StructuresFullError) as caught:
        await client.generate([Job((FULL,), params)])
    assert (caught.value.message, caught.value.code) == (NO_ROOM, "structures_full")
    await until(lambda: not life.engine.running)
    assert client.inflight == 0


async def test_a_failed_job_ends_with_the_engines_sentence(
    engines: Start, client: EngineClient
) -> None:
    engines()
    with pytest.raises(GenerationFailedError, match=r"^Scripted failure\.$"):
        await read(await client.generate([job(FAILS)]))


async def test_a_failure_leaves_other_requests_alone(engines: Start, client: EngineClient) -> None:
    engines(step_seconds=0.005)
    good = await client.generate([job(tokens=20)])
    with pytest.raises(GenerationFailedError):
        await (await client.generate([job(FAILS)])).collect()
    assert await read(good) == ["abcdefghijklmnopqrst"]


async def test_close_aborts_within_a_step(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.2)
    generation = await client.generate([job(tokens=100_000), job(tokens=100_000)])
    await generation.next()
    before = life.engine.steps
    generation.close()
    await until(lambda: len(life.engine.aborted) == 2)
    # One is under way when the message comes; the others are the time it takes on a loaded machine.
    assert life.engine.steps - before < 25
    assert client.inflight == 0
    generation.close()  # twice is harmless


async def test_cancelled_while_it_waits_to_be_accepted_leaves_nothing(
    engines: Start, client: EngineClient
) -> None:
    task = asyncio.create_task(client.generate([job()]))
    await asyncio.sleep(0.05)  # there is no engine yet
    assert client.inflight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.inflight == 0
    life = engines()
    await (await client.generate([job(7, tokens=1)])).collect()
    assert set(life.engine.seen) == {(7,)}


async def test_a_slow_reader_gets_merged_news_and_slows_nobody(
    engines: Start, client: EngineClient
) -> None:
    engines()
    slow = await client.generate([job(tokens=3000)])
    first = await slow.next()
    assert first
    # Nobody reads `slow` meanwhile, yet these go through and it runs to its end.
    for _ in range(3):
        assert await read(await client.generate([job(tokens=50)])) == [
            ("abcdefghijklmnopqrstuvwxyz" * 2)[:50]
        ]
    await until(lambda: slow.slots[0].finished)
    rest = await slow.next()
    assert len(rest) == 1
    assert first[0][1].text + rest[0][1].text == ("abcdefghijklmnopqrstuvwxyz" * 116)[:3000]
    assert rest[0][1].output_tokens == 3000
    assert slow.finished


async def test_next_returns_empty_after_silence(engines: Start, client: EngineClient) -> None:
    life = engines()
    generation = await client.generate([job(tokens=100_000)])
    life.engine.go.clear()
    while await generation.next(0.05):
        pass
    life.engine.go.set()
    assert await generation.next(PATIENCE_SECONDS)
    generation.close()


async def test_two_clients_get_only_their_own(
    engines: Start, client: EngineClient, endpoint: str
) -> None:
    engines(step_seconds=0.002)
    other = EngineClient("base", endpoint)
    await other.start()
    try:
        mine, theirs = await asyncio.gather(
            client.generate([job(tokens=30)]), other.generate([job(tokens=20)])
        )
        alphabet = "abcdefghijklmnopqrstuvwxyz" * 2
        first, second = await asyncio.gather(read(mine), read(theirs))
        assert (first, second) == ([alphabet[:30]], [alphabet[:20]])
    finally:
        await other.close()


async def test_requests_of_a_client_that_vanished_are_aborted(
    engines: Start, endpoint: str
) -> None:
    life = engines(step_seconds=0.01)
    gone = EngineClient("base", endpoint)
    await gone.start()
    await gone.generate([job(tokens=100_000)])
    await gone.close()  # sends no abort: as if its process had been killed
    await until(lambda: len(life.engine.aborted) == 1)


async def test_too_many_unfinished_requests_are_refused_at_once(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_INFLIGHT", 3)
    with pytest.raises(EngineUnavailableError, match="too many unfinished requests"):
        await client.generate([job()] * 4)
    assert client.inflight == 0


async def test_beats_tell_state_and_numbers(engines: Start, client: EngineClient) -> None:
    assert client.beat is None
    assert not client.ready
    engines()
    # The loop may tell its numbers before the engine is said to be ready.
    await until(lambda: client.ready and client.beat is not None and bool(client.beat.stats))
    assert client.beat is not None
    assert client.beat.stats == {"steps": 1.0}
    assert client.beat.max_model_len == 1000
