"""Owns requests that reach the engine at moments of their own, and what became of each."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from serving_workloads import Item

from loraplex.engine.engine import Engine
from loraplex.engine.pages import BLOCK_SIZE
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams


@dataclass(slots=True)
class Served:
    """One request: seconds from the start of the run at which it was due and each of its tokens was there."""

    item: Item
    tokens: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Seconds from its moment to its first token."""
        return self.tokens[0] - self.item.at

    @property
    def total(self) -> float:
        """Seconds from its moment to its last token."""
        return self.tokens[-1] - self.item.at

    def gaps(self, start: float, end: float) -> list[float]:
        """Seconds between tokens of which the later one came in this stretch of the run."""
        return [
            b - a for a, b in zip(self.tokens, self.tokens[1:], strict=False) if start <= b < end
        ]


def run_timed(
    engine: Engine, items: Sequence[Item], name: str, *, background: int = 0
) -> list[Served]:
    """Send each item at its moment, whatever became of the others; returns when all have ended.

    Args:
        items: by moment; `adapter` is a handle, or negative for the base model.
        name: begins the ids of the requests.
        background: so many of the first items are stopped when all others have ended.
    """
    rng = np.random.default_rng(0)  # prompts only need to differ from each other
    requests = [
        Request(
            f"{name}{number}",
            tuple(rng.integers(3, engine.model.vocab_size, item.prompt).tolist()),
            SamplingParams(temperature=0, max_tokens=item.output, ignore_eos=True),
            item.adapter if item.adapter >= 0 else None,
        )
        for number, item in enumerate(items)
    ]
    served = {r.request_id: Served(i) for r, i in zip(requests, items, strict=True)}
    coming = deque(zip(items, requests, strict=True))
    left = len(items) - background
    start = time.perf_counter()
    while left and (coming or engine.has_work()):
        now = time.perf_counter() - start
        while coming and coming[0][0].at <= now:
            engine.add(coming.popleft()[1])
        if not engine.has_work():
            time.sleep(max(0.0, coming[0][0].at - now))
            continue
        outputs = engine.step()
        now = time.perf_counter() - start
        for output in outputs:
            assert output.error is None, output.error
            served[output.request_id].tokens += [now] * len(output.token_ids)
            left -= output.finish_reason is not None
    for request in requests[:background]:
        engine.abort(request.request_id)
    return list(served.values())


def poisson(
    count: int, rate: float, adapters: Sequence[int], prompt: int, output: int, seed: int = 0
) -> list[Item]:
    """`count` requests at random moments, `rate` per second on average, each for any of `adapters`."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, count))
    chosen = rng.integers(0, len(adapters), count)
    return [
        Item(adapters[which], prompt, output, float(at))
        for which, at in zip(chosen, times, strict=True)
    ]


def peak_blocks(served: Sequence[Served]) -> int:
    """The most KV blocks that the requests held together, as if each had held its prompt from its moment on."""
    return max(sum(_blocks(other, one.tokens[-1]) for other in served) for one in served)


def _blocks(served: Served, now: float) -> int:
    if not served.item.at <= now <= served.tokens[-1]:
        return 0
    tokens = served.item.prompt + sum(at <= now for at in served.tokens)
    return -(-tokens // BLOCK_SIZE)
