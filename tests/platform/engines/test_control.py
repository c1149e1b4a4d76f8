"""Purges, pins and descriptions, through the real loop of an engine process."""

import asyncio

import pytest

from loraplex.engine import adapter_report
from loraplex.engine.adapter_report import AdapterReport
from loraplex.engine.request import EVICTED_BY_KV as BY_KV
from loraplex.engine.request import Timings
from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines import descriptions
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.generation import GenerationFailedError, Job
from loraplex.platform.engines.messages import (
    EVICTED_BY_KV,
    AdapterFile,
    Describe,
    Description,
    Purge,
    TenantShare,
    Tier,
    Traffic,
)
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.errors import BadRequestError, EngineUnavailableError
from support.patience import PATIENCE_SECONDS
from support.scripted_engine import FAILS, REFUSED, Start, job, read, soon, until


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine tells this often that it lives, so tests end sooner; a description may take longer than it should."""
    monkeypatch.setattr("loraplex.platform.engines.pulse.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("loraplex.platform.engines.control.ANSWER_SECONDS", PATIENCE_SECONDS)


def adapter(identity: str) -> AdapterFile:
    return AdapterFile(identity, "sha", 1, b"{}")


def adapter_job(identity: str, *prompt: int, tokens: int = 5, tenant: str = "t") -> Job:
    return Job(
        prompt or (1, 2),
        SamplingParams(max_tokens=tokens),
        adapter(identity),
        share=TenantShare(tenant, 2.0, 7, 3),
    )


def report(handle: int, evicted_by: int | None = None) -> AdapterReport:
    tier = adapter_report.Tier.DEVICE
    return AdapterReport(handle, tier, 100, 1, 2, 3, 4, 0.5, False, evicted_by)


async def test_a_purge_tells_what_every_tier_removed(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.005)
    life.adapters.go.clear()
    running = await client.generate([adapter_job("t/a", tokens=100_000)])
    purge = asyncio.create_task(client.control.purge("t/a"))
    await until(lambda: life.adapters.purged == ["t/a"])
    await asyncio.sleep(0.05)
    assert not purge.done(), "the tiers below are not through"
    life.adapters.go.set()
    done = await soon(purge)
    assert (done.identity, done.pages, done.blocks) == ("t/a", 3, 5)
    assert (done.host_entries, done.disk_files, done.requests) == (1, 1, 1)
    running.close()


async def test_an_adapter_the_engine_never_had_is_purged_from_the_tiers_below(
    engines: Start, client: EngineClient
) -> None:
    engines()
    await until(lambda: client.ready)
    done = await soon(client.control.purge("t/unknown"))
    assert (done.pages, done.blocks, done.host_entries, done.disk_files) == (0, 0, 1, 1)


async def test_a_purge_waits_for_an_engine_that_is_down(
    engines: Start, client: EngineClient
) -> None:
    purge = asyncio.create_task(client.control.purge("t/a"))
    await asyncio.sleep(0.05)
    assert not purge.done()
    life = engines()
    await soon(purge)
    assert set(life.adapters.purged) == {"t/a"}


async def test_a_wish_sent_twice_is_one_and_a_second_wish_begins_after_the_first(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    await until(lambda: client.ready)
    life.adapters.go.clear()
    first = asyncio.create_task(client.control.purge("t/a"))
    await until(lambda: len(life.adapters.purged) == 1)
    client._send(Purge(0, "t/a"))  # as a beat does while there is no answer
    second = asyncio.create_task(client.control.purge("t/a"))
    await asyncio.sleep(0.05)
    assert len(life.adapters.purged) == 1
    life.adapters.go.set()
    await soon(asyncio.gather(first, second))
    assert life.adapters.purged == ["t/a", "t/a"]


async def test_pins_reach_an_engine_and_its_successor(engines: Start, client: EngineClient) -> None:
    life = engines()
    await until(lambda: client.ready)
    client.control.pin([adapter("t/a"), adapter("t/b"), adapter("t/too-many")])
    await until(lambda: life.adapters.pinned == ["t/a", "t/b"])
    assert life.engine.pinned == {0, 1}
    client.control.pin([adapter("t/b")])
    await until(lambda: life.adapters.pinned == ["t/b"])
    assert life.engine.pinned == {1}
    life.stop()
    successor = engines()
    await until(lambda: successor.adapters.pinned == ["t/b"])
    assert successor.engine.pinned == {0}


async def test_a_purged_adapter_is_pinned_no_more(engines: Start, client: EngineClient) -> None:
    life = engines()
    await until(lambda: client.ready)
    client.control.pin([adapter("t/a")])
    await until(lambda: life.engine.pinned == {0})
    await soon(client.control.purge("t/a"))
    client.control.pin([])
    client.control.pin([adapter("t/a")])  # pushed again
    await until(lambda: life.engine.pinned == {0, 1})


async def test_a_description_joins_engine_tiers_and_traffic(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    await until(lambda: client.ready)
    assert await read(await client.generate([adapter_job("t/a", 1, 2, 3, tokens=4)]))
    assert await read(await client.generate([adapter_job("t/b", tokens=2)]))
    life.engine.reports = [report(0, evicted_by=1), report(1, evicted_by=BY_KV)]
    described = await client.control.describe()
    assert described is not None
    first, second = sorted(described.adapters, key=lambda state: state.identity)
    assert (first.identity, first.tier, first.last_evicted_by) == ("t/a", Tier.DEVICE, "t/b")
    assert (first.device_bytes, first.host_bytes, first.disk_bytes) == (100, 10, 20)
    assert (first.loads, first.evictions, first.hits, first.load_seconds) == (2, 3, 4, 0.5)
    assert (first.requests, first.prompt_tokens, first.output_tokens) == (1, 3, 4)
    assert (first.running, first.waiting) == (1, 0)
    assert second.last_evicted_by == EVICTED_BY_KV


async def test_a_purged_adapter_is_in_no_tier_at_once_and_may_come_back(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    await read(await client.generate([adapter_job("t/a")]))
    await soon(client.control.purge("t/a"))
    for _ in range(2):
        described = await client.control.describe()
        assert described is not None
        assert described.adapters == []
    life.adapters.refresh()
    assert await client.control.describe() == Description(3, [], Traffic(1, 2, 5))
    await read(await client.generate([adapter_job("t/a")]))
    described = await client.control.describe()
    assert described is not None
    assert [state.tier for state in described.adapters] == [Tier.HOST]


async def test_waiting_are_those_begun_and_not_running(
    engines: Start, client: EngineClient
) -> None:
    life = engines()
    await until(lambda: client.ready)
    life.engine.go.clear()
    waiting = [await client.generate([adapter_job("t/a")]) for _ in range(3)]
    life.engine.reports = [report(0)]
    described = await client.control.describe()
    assert described is not None
    assert [(s.running, s.waiting) for s in described.adapters] == [(1, 2)]
    for generation in waiting:
        generation.close()
    life.engine.reports = []
    described = await client.control.describe()
    assert described is not None
    assert [(s.requests, s.waiting, s.tier) for s in described.adapters] == [(3, 0, Tier.HOST)]


async def test_steps_go_on_while_thousands_are_described(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.001)
    await until(lambda: client.ready)
    names = [f"t/{number}" for number in range(10 * descriptions.SLICE + 1)]
    for name in names:
        life.adapters.handle(adapter(name))
    generation = await client.generate([job(tokens=100_000)])
    await generation.next()
    asked = asyncio.create_task(client.control.describe())
    seen = []
    while not asked.done():
        seen += [delta.output_tokens for _, delta in await generation.next()]
    generation.close()
    state = await asked
    assert state is not None
    assert {adapter.identity for adapter in state.adapters} == set(names)
    assert seen[-1] - seen[0] >= 10, "a slice for each step"


async def test_no_engine_no_description(engines: Start, client: EngineClient) -> None:
    assert await client.control.describe() is None
    life = engines()
    await read(await client.generate([job()]))  # beats may arrive before messages can leave
    client._send(Describe(10**6))  # an answer nobody waits for harms nobody
    assert await client.control.describe() is not None
    life.stop()
    await until(lambda: not client.ready)
    assert await client.control.describe() is None


async def test_tenants_become_numbers_that_stay(engines: Start, client: EngineClient) -> None:
    life = engines()
    for tenant in ("acme", "globex", "acme"):
        await read(await client.generate([adapter_job("t/a", tenant=tenant)]))
    await read(await client.generate([job()]))
    clients = [share.client for share in life.engine.shares]
    assert clients[0] == clients[2]
    assert len(set(clients)) == 3
    assert life.engine.shares[0][1:] == (2.0, 7, 3)
    assert life.engine.shares[3][1:] == (1.0, None, None)


class Told:
    """Collects outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, Outcome]] = []

    def __call__(self, index: int, outcome: Outcome) -> None:
        self.outcomes.append((index, outcome))

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return sorted((index, outcome.finish_reason) for index, outcome in self.outcomes)


async def test_every_end_is_told_once(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.002)
    life.engine.timings = Timings(0.1, 0.2, 0.3, 0.4, 2, 1)
    await read(await client.generate([adapter_job("t/a"), adapter_job("t/b")]))
    told = Told()
    generation = await client.generate([adapter_job("t/a", 1, 2, tokens=3), job(tokens=6)], told)
    assert await read(generation) == ["abc", "abcdef"]
    generation.close()
    assert told.reasons == [(0, "length"), (1, "length")]
    outcome = next(outcome for index, outcome in told.outcomes if index == 0)
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.evicted_by) == (2, 3, "t/b")
    assert outcome.timings == life.engine.timings
    assert outcome.first_token is not None
    assert 0 < outcome.first_token < outcome.seconds


async def test_a_reader_that_leaves_is_told_of_as_cancelled(
    engines: Start, client: EngineClient
) -> None:
    engines(step_seconds=0.005)
    told = Told()
    generation = await client.generate([job(tokens=100_000), job(tokens=1)], told)
    while len(told.outcomes) < 1:
        await generation.next()
    generation.close()
    generation.close()
    assert told.reasons == [(0, "cancelled"), (1, "length")]
    cancelled = next(outcome for index, outcome in told.outcomes if index == 0)
    assert cancelled.output_tokens > 0
    assert cancelled.timings is None


async def test_a_failed_job_is_told_of_as_error_and_its_siblings_as_cancelled(
    engines: Start, client: EngineClient
) -> None:
    engines(step_seconds=0.005)
    told = Told()
    generation = await client.generate([job(FAILS), job(tokens=100_000)], told)
    with pytest.raises(GenerationFailedError):
        await read(generation)
    generation.close()
    assert told.reasons == [(0, "error"), (1, "cancelled")]


async def test_of_refused_jobs_nothing_is_told(engines: Start, client: EngineClient) -> None:
    engines()
    told = Told()
    with pytest.raises(BadRequestError):
        await client.generate([job(REFUSED), job(REFUSED)], told)
    assert told.outcomes == []


async def test_a_lost_engine_is_told_of_as_lost(engines: Start, client: EngineClient) -> None:
    life = engines(step_seconds=0.005)
    told = Told()
    generation = await client.generate([job(tokens=100_000)], told)
    await generation.next()
    life.stop()
    with pytest.raises(EngineUnavailableError, match="stopped while working"):
        await read(generation)
    generation.close()
    assert told.reasons == [(0, "lost")]


async def test_a_job_that_survives_its_engine_is_told_of_once(
    engines: Start, client: EngineClient
) -> None:
    life = engines(step_seconds=0.005)
    told = Told()
    # For the first engine ten seconds of work, for the second less than one.
    generation = await client.generate([job(tokens=2000)], told)
    collecting = asyncio.create_task(generation.collect())
    await until(lambda: bool(generation.slots[0].pending))
    life.stop()
    successor = engines()
    deltas = await soon(collecting)
    assert successor.engine.seen == {(1, 2): 1}
    assert deltas[0].output_tokens == 2000
    assert [(i, o.finish_reason, o.output_tokens) for i, o in told.outcomes] == [
        (0, "length", 2000)
    ]
