"""What a reader of a generation gets when news and a failure meet."""

import asyncio

import pytest

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.messages import Delta
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


async def test_a_reader_that_waits_for_the_first_news_sees_it_before_a_failure() -> None:
    generation = Generation([Job((1,), SamplingParams())], lambda _: None)
    arriving = asyncio.create_task(generation.arrived(60))
    await asyncio.sleep(0)
    generation.push(generation.slots[0], Delta("r", (7,), "a", None, None, None, 1, 0, 1))
    generation.fail(EngineUnavailableError("The engine stopped."))
    assert await arriving
    assert await generation.next()
