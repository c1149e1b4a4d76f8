"""The order of thousands of waiting requests is kept cheaply, and is the right one."""

import random

from loraplex.engine.fair_queue import FairQueue
from loraplex.engine.growing_heap import GrowingHeap
from loraplex.engine.request import Request, Share
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence


def test_heap_agrees_with_sorting() -> None:
    rng = random.Random(0)
    keys = {item: (float(rng.randrange(10)), item) for item in range(50)}
    heap: GrowingHeap[int] = GrowingHeap(keys.__getitem__)
    here: set[int] = set()
    for _ in range(5000):
        item = rng.randrange(50)
        match rng.randrange(3):
            case 0 if item not in here:
                heap.add(item)
                here.add(item)
            case 1:
                heap.discard(item)
                here.discard(item)
            case 2:
                keys[item] = (keys[item][0] + rng.randrange(3), item)
        assert heap.first() == min(here, key=keys.__getitem__, default=None)
        assert len(heap._heap) <= 17 + 2 * 50


def test_admissions_follow_the_counters_whatever_comes_and_goes() -> None:
    """Against the definition: the client with least, and of its best priority the adapter with least."""
    rng = random.Random(0)
    queue, waiting = FairQueue(), list[Sequence]()
    for number in range(3000):
        if rng.random() < 0.55:
            share = Share(rng.randrange(5), rng.choice((0.5, 1.0, 3.0)))
            adapter, priority = rng.choice((None, 0, 1)), rng.choice((0, 0, 0, 1))
            params = SamplingParams(max_tokens=1)
            request = Request(str(number), (1,), params, adapter, b"", priority, share)
            sequence = Sequence(request, number, None)
            sequence.account = queue.account(sequence)
            queue.add(sequence)
            waiting.append(sequence)
        elif waiting and rng.random() < 0.1:
            queue.remove(waiting.pop(rng.randrange(len(waiting))))
        if waiting and rng.random() < 0.5:
            first = queue.first()
            assert first is not None
            best = min(s.account.client.counter for s in waiting if s.account)
            assert first.account is not None
            assert first.account.client.counter == best
            own = [s for s in waiting if s.account and s.account.client is first.account.client]
            if first is not own[0]:  # or it was the turn of the oldest after 64 others
                level = min(s.request.priority for s in own)
                counter = min(
                    s.account.counter for s in own if s.account and s.request.priority == level
                )
                assert (first.request.priority, first.account.counter) == (level, counter)
            queue.admit(first)
            waiting.remove(first)
            first.account.charge(rng.randrange(1, 300))
        assert len(queue) == len(waiting)
