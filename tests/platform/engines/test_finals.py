"""What an engine remembers of generations that ended, for when their API worker cannot settle them; and that what is
counted when an engine dies is what the reader got."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from loraplex.engine.request import Output
from loraplex.platform.engines import finals as finals_module
from loraplex.platform.engines import loop as loop_module
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.control import MANY_ACKNOWLEDGED
from loraplex.platform.engines.finals import FinalBook
from loraplex.platform.engines.generation import Generation, GenerationFailedError, Job
from loraplex.platform.engines.messages import Final, FinalsOf
from loraplex.platform.engines.outcome import LOST, Outcome
from loraplex.platform.errors import EngineUnavailableError
from support.scripted_engine import CRASHES, FAILS, EngineThread, Start, job, read, until

ONE, TWO, THREE = (bytes([n]) * 16 for n in (1, 2, 3))


def counted(account: bytes, *prompt: int, tokens: int = 5) -> Job:
    return replace(job(*prompt, tokens=tokens), account=account)


@asynccontextmanager
async def another(endpoint: str) -> AsyncIterator[EngineClient]:
    """Another API worker; it sends no aborts when it ends, like one that was killed."""
    client = EngineClient("base", endpoint)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def told(client: EngineClient, *accounts: bytes) -> FinalsOf:
    await until(lambda: client.ready)
    answer = await client.control.finals(accounts)
    assert answer is not None
    return answer


async def ended(client: EngineClient, *accounts: bytes) -> list[Final]:
    """The finals of these once nothing of them runs."""
    async with asyncio.timeout(60):
        while (answer := await told(client, *accounts)).running:  # noqa: ASYNC110 - news of a thread
            await asyncio.sleep(0.01)
    return answer.finals


async def test_what_ended_is_known_until_it_is_acknowledged(
    engines: Start, client: EngineClient
) -> None:
    engines()
    generation = await client.generate([counted(ONE, tokens=5), counted(ONE, 1, 2, 3, tokens=3)])
    await read(generation)
    await read(await client.generate([counted(TWO, tokens=1)]))
    await read(await client.generate([job(tokens=1)]))  # counts for nobody

    finals = await ended(client, ONE, THREE)
    assert [(f.account, f.choice, f.finish_reason, f.output_tokens) for f in finals] == [
        (ONE, 1, "length", 3),
        (ONE, 0, "length", 5),
    ]
    assert [(f.prompt_tokens, f.cached_tokens) for f in finals] == [(3, 0), (2, 0)]
    assert finals[0].timings is not None
    assert finals[0].timings.decode == 1.0

    client.acknowledge([ONE])
    async with asyncio.timeout(60):
        while (await told(client, ONE)).finals:  # noqa: ASYNC110 - news of a thread
            await asyncio.sleep(0.05)
    assert [f.account for f in await ended(client, TWO)] == [TWO]


async def test_errors_and_aborts_are_remembered_too(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.005)
    with pytest.raises(GenerationFailedError):
        await read(await client.generate([counted(ONE, FAILS)]))
    generation = await client.generate([counted(TWO, tokens=100_000)])
    await generation.next()
    assert (await told(client, TWO)).running == [TWO]
    generation.close()
    await until(lambda: len(life.engine.aborted) == 1)
    failed, aborted = await ended(client, ONE, TWO)
    assert (failed.finish_reason, failed.output_tokens) == ("error", 2)
    assert aborted.finish_reason == "cancelled"
    assert aborted.output_tokens >= 1
    assert aborted.timings is None


async def test_an_abort_and_its_acknowledgement_may_come_in_one_round(
    engines: Start, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = engines()
    stepping, go_on = threading.Event(), threading.Event()
    step = life.engine.step

    def long_step() -> list[Output]:
        stepping.set()
        go_on.wait()
        return step()

    generation = await client.generate([counted(ONE, tokens=100_000)])
    monkeypatch.setattr(life.engine, "step", long_step)
    try:
        await until(stepping.is_set)
        generation.close()
        client.acknowledge([ONE] * (MANY_ACKNOWLEDGED + 1))  # at once, not with the next beat
        await asyncio.sleep(0.2)
    finally:
        go_on.set()
    await until(lambda: len(life.engine.aborted) == 1)
    await told(client, ONE)  # the round is over when this is answered
    assert (await told(client, ONE)).finals == []


async def test_of_a_worker_that_is_gone_what_it_was_sent_is_known(
    engines: Start, client: EngineClient, endpoint: str
) -> None:
    """Also when nothing is sent that could fail: an idle loop looks now and then."""
    life = engines(step_seconds=0.002)
    async with another(endpoint) as dying:
        running = await dying.generate([counted(ONE, tokens=100_000), counted(ONE, tokens=2)])
        waiting = await dying.generate([counted(TWO, tokens=100_000)])
        await until(lambda: running.slots[1].finished)
        await until(lambda: waiting.slots[0].last is not None)
        received = await pause(life, running, waiting)
    short, long, other = await ended(client, ONE, TWO)
    assert (short.choice, short.finish_reason, short.output_tokens) == (1, "length", 2)
    assert [long.output_tokens, short.output_tokens, other.output_tokens] == received
    assert {long.finish_reason, other.finish_reason} == {LOST}
    assert not life.engine.running


async def test_a_step_that_cannot_be_sent_does_not_count(
    engines: Start, client: EngineClient, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = engines(step_seconds=0.002)
    async with another(endpoint) as dying:
        running = await dying.generate([counted(ONE, tokens=100_000)])
        await until(lambda: running.slots[0].last is not None)
        # From now on only a failing step can tell the loop that its worker is gone.
        monkeypatch.setattr(loop_module, "TICK_SECONDS", 2.0)
        await asyncio.sleep(0.2)
        received = await pause(life, running)
    request_id = next(iter(life.engine.running))
    request, done = life.engine.running[request_id]
    assert [done] == received
    # Its next token would be its last one.
    ending = replace(request, params=replace(request.params, max_tokens=done + 1))
    life.engine.running[request_id] = (ending, done)
    life.engine.go.set()
    (final,) = await ended(client, ONE)
    assert (final.finish_reason, [final.output_tokens]) == (LOST, received)


async def pause(life: EngineThread, *generations: Generation) -> list[int]:
    """Stop the engine between two steps; how many tokens have arrived, in the order of the slots."""
    life.engine.go.clear()
    slots = [slot for generation in generations for slot in generation.slots]

    def counts() -> list[int]:
        return [slot.last.output_tokens if slot.last is not None else 0 for slot in slots]

    def sent() -> list[int]:
        by_id = {request_id: done for request_id, (_, done) in life.engine.running.items()}
        return [
            by_id.get(slot.request_id or "", slot.last.output_tokens if slot.last else 0)
            for slot in slots
        ]

    quiet = counts()
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.1)
            if counts() == quiet == sent():
                return quiet
            quiet = counts()


async def test_what_starts_afresh_replaces_its_earlier_end(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.01)
    first = await client.generate([counted(ONE, tokens=100_000)])
    first.close()
    await until(lambda: len(life.engine.aborted) == 1)
    assert len(await ended(client, ONE)) == 1
    await read(await client.generate([counted(ONE, tokens=3)]))
    (final,) = await ended(client, ONE)
    assert (final.finish_reason, final.output_tokens) == ("length", 3)


async def test_an_engine_that_is_not_there_tells_nothing(client: EngineClient) -> None:
    assert await client.control.finals([ONE]) is None
    client.acknowledge([ONE])


def test_the_oldest_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(finals_module, "MAX_FINALS", 4)
    book = FinalBook()
    accounts = [bytes([n]) * 16 for n in range(4)]
    for account in accounts:
        book.add([Final(account, choice, 0, "stop", 1, 0, 1) for choice in (0, 1)])
    assert [len(book.of([account])) for account in accounts] == [0, 0, 2, 2]
    assert len(book) == 4
    assert "2 ends of generations that nobody acknowledged are forgotten" in caplog.text
    book.acknowledge(accounts)
    assert len(book) == 0


# What counts when the engine dies


class Settled(list[tuple[int, Outcome]]):
    def __call__(self, index: int, outcome: Outcome) -> None:
        self.append((index, outcome))


async def test_a_reader_gets_everything_that_counts_before_it_hears_of_the_loss(
    engines: Start, client: EngineClient
) -> None:
    life, settled = engines(step_seconds=0.005), Settled()
    generation = await client.generate([job(tokens=100_000)], settled)
    ((_, first),) = await generation.next()
    slot = generation.slots[0]
    await until(lambda: len(slot.pending) > 3)  # read by nobody yet
    await asyncio.to_thread(life.stop)
    await until(lambda: generation.failed)
    ((_, rest),) = await generation.next()
    with pytest.raises(EngineUnavailableError):
        await generation.next()
    generation.close()
    ((_, outcome),) = settled
    got = len(first.token_ids) + len(rest.token_ids)
    assert (outcome.finish_reason, outcome.output_tokens) == (LOST, got)
    assert got > 4


async def test_of_a_whole_answer_that_fails_nothing_counts(
    engines: Start, client: EngineClient
) -> None:
    settled = Settled()
    first = engines(step_seconds=0.01)
    generation = await client.generate([job(CRASHES)], settled)
    result = asyncio.create_task(generation.collect())
    await until(lambda: first.error is not None)
    await asyncio.to_thread(first.stop)
    engines(step_seconds=0.01)
    with pytest.raises(EngineUnavailableError):
        await result
    generation.close()
    ((_, outcome),) = settled
    assert (outcome.finish_reason, outcome.output_tokens) == (LOST, 0)
