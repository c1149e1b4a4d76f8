"""What a reader of a generation gets when news and a failure meet."""

import asyncio

import pytest

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.messages import Delta
from loraplex.platform.engines.outcome import ERROR, Outcome
from loraplex.platform.errors import EngineUnavailableError


async def test_news_that_came_before_a_failure_is_handed_over_first() -> None:
    """Both come before the reader, who waits, gets a turn: the tokens count, so they must not be lost."""
    generation = Generation([Job((1,), SamplingParams())], lambda _: None)
    reading = asyncio.create_task(generation.next())
    await asyncio.sleep(0)
    generation.push(generation.slots[0], Delta("r", (7,), "a", None, None, None, 1, 0, 1))
    generation.fail(EngineUnavailableError("The engine stopped."))
    ((index, delta),) = await reading
    assert (index, delta.token_ids) == (0, (7,))
    with pytest.raises(EngineUnavailableError):
        await generation.next()


async def test_what_fails_before_anybody_reads_hands_over_and_counts_nothing() -> None:
    outcomes: list[Outcome] = []
    job = Job((1,), SamplingParams())
    generation = Generation([job], lambda _: None, lambda _, outcome: outcomes.append(outcome))
    arriving = asyncio.create_task(generation.arrived(60))
    await asyncio.sleep(0)
    slot = generation.slots[0]
    slot.last = Delta("r", (7,), "a", None, None, None, 1, 0, 1)
    generation.push(slot, slot.last)
    generation.settle(slot, ERROR)
    generation.fail(EngineUnavailableError("The engine stopped."))
    with pytest.raises(EngineUnavailableError):
        await arriving
    with pytest.raises(EngineUnavailableError):
        await generation.next()
    assert [outcome.output_tokens for outcome in outcomes] == [0]
