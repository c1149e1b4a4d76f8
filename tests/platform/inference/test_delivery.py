"""A client that leaves between the start of its answer and the first look at it: the engine must not write on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from litestar import Request
from litestar.types import Receive

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.delivery import deliver


class Begun:
    """An answer that runs, and notes who closed it."""

    def __init__(self) -> None:
        self.closed = 0
        self.generation = Generation([Job((1,), SamplingParams())], self._close)

    def frames(self) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        raise NotImplementedError

    def _close(self, _: Generation) -> None:
        self.closed += 1


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_in_the_moment_of_the_start_ends_it(*, stream: bool) -> None:
    """The start succeeds, and before anybody hears of that the request is cancelled."""
    begun = Begun()

    async def start() -> Begun:
        handling.cancel()
        return begun

    async def find_model() -> None:
        raise NotImplementedError

    handling = asyncio.ensure_future(
        deliver(request_of(connected), start(), find_model, stream=stream)
    )
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert begun.closed


async def connected() -> Any:
    await asyncio.Event().wait()


def request_of(receive: Receive) -> Request[Any, Any, Any]:
    # The ignore: nothing else of a scope is looked at.
    return Request({"type": "http"}, receive)  # type: ignore[arg-type]
