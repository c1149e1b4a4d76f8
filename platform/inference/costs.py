"""Owns the headers that say what an inference request cost in time and what is left of its limits."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from litestar.types import Message, Scope

_STATE = "inference_costs"


class Costs:
    """Of one request, from when it came.

    Attributes:
        headers: of the answer, about what is left of limits.
    """

    def __init__(self, received: float) -> None:
        """`received` is on the clock of `time.perf_counter`; all until now was routing and the key."""
        self.headers: Mapping[str, str] = {}
        self._received = received
        self._overhead = time.perf_counter() - received

    @contextmanager
    def overhead(self) -> Iterator[None]:
        """What is done inside is neither reading the prompt nor answering it: names, limits, the ledger."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._overhead += time.perf_counter() - start

    def as_headers(self) -> dict[str, str]:
        """All of them, at the moment the answer begins."""
        return {
            "openai-processing-ms": str(round(1000 * (time.perf_counter() - self._received))),
            "x-loraplex-overhead-ms": f"{1000 * self._overhead:.3f}",
            **self.headers,
        }


def begin_costs(scope: Scope) -> Costs:
    """Costs of a request whose handler begins; `send_costs` will put them on its answer."""
    costs = Costs(scope["state"]["received"])
    scope["state"][_STATE] = costs
    return costs


async def send_costs(message: Message, scope: Scope) -> None:
    """Put the headers on the answers of inference, errors included."""
    if message["type"] != "http.response.start":
        return
    costs = scope["state"].get(_STATE)
    if isinstance(costs, Costs):
        own = [(name.encode(), value.encode()) for name, value in costs.as_headers().items()]
        message["headers"] = [*message.get("headers", ()), *own]
