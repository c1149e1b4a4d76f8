"""What waiting requests may rely on: a bound on being passed over, limits, fair shares, and an end for everyone."""

import random

import pytest

from loraplex.engine.request import Share
from loraplex.engine.sequence import Sequence
from support.stepless import Stepless


def bound(places: int) -> int:
    """The promise of `Scheduler`."""
    return max(16, places)


@pytest.mark.parametrize("seed", range(8))
def test_random_worlds_pass_nobody_over_beyond_the_bound(seed: int) -> None:
    """Memory for a few adapters and sequences; sizes, limits, priorities, aborts and loads at random."""
    rng = random.Random(seed)
    places, pages = rng.choice((2, 8, 40)), rng.choice((40, 90))
    sizes = {handle: rng.choice((1, 3, 10, pages // 3)) for handle in range(rng.choice((3, 30)))}
    world = Stepless(pages=pages, sizes=sizes, delay=rng.choice((0, 3)), places=places)
    clients = rng.choice((1, 5))
    most = 0
    for _ in range(250):
        for _ in range(rng.choice((0, 1, 1, 3))):
            share = Share(
                client=rng.randrange(clients),
                weight=rng.choice((0.5, 1, 2)),
                client_limit=rng.choice((None, None, 1, 4)),
                adapter_limit=rng.choice((None, None, 1, 2)),
            )
            world.add(
                rng.choice((1, 16, 40, 8 * pages)),
                rng.choice((1, 5, 30)),
                rng.choice((None, *sizes)),
                share=share,
                priority=rng.choice((0, 0, 1, 5)),
            )
        if world.sequences and rng.random() < 0.1:
            world.abort(rng.choice(list(world.sequences.values())))
        world.step()
        if rng.random() < 0.2:
            world.check()
        assert_limits(world)
        passed = [s.passed_over for s in world.sequences.values()]
        most = max(most, *passed, 0)
    world.drain()
    world.check()
    assert most <= bound(places)
    assert world.blocks.num_free == pages
    assert set(world.failed.values()) <= {m for m in world.failed.values() if "memory" in m}


def assert_limits(world: Stepless) -> None:
    """No sequence was admitted beyond its own limits; others, with higher ones, may have joined it since."""
    running = list(world.scheduler.running)
    for newest in running[-1:]:
        share = newest.request.share
        of_client = [s for s in running if s.request.share.client == share.client]
        of_adapter = [s for s in running if s.request.adapter == newest.request.adapter]
        assert share.client_limit is None or len(of_client) <= share.client_limit
        assert share.adapter_limit is None or len(of_adapter) <= share.adapter_limit


@pytest.mark.parametrize("seed", range(3))
def test_no_stream_of_later_requests_keeps_one_out(seed: int) -> None:
    """Equal clients' single requests for adapters of all sizes are in turn by arrival, so each later arrival that is
    admitted earlier has passed the others over. Counted from outside."""
    rng = random.Random(seed)
    places = rng.choice((4, 16))
    sizes = {handle: rng.choice((1, 2, 15, 30)) for handle in range(200)}
    world = Stepless(pages=40, sizes=sizes, places=places)
    for handle in range(200):
        world.add(rng.choice((1, 30, 300)), rng.choice((1, 10)), handle, share=Share(client=handle))
        if rng.random() < 0.5:
            world.step()
    world.drain()
    order = [s.arrival for s in world.admitted]
    for at, arrival in enumerate(order):
        # Sixteen adapters are loaded at a time, and come in any order.
        assert sum(other > arrival for other in order[:at]) <= bound(places) + 16


def test_large_adapter_gets_its_room() -> None:
    """Small adapters in constant use leave no room for a large one, unless some are drained for it."""
    world = Stepless(pages=12, sizes={0: 10, **dict.fromkeys(range(1, 5), 2)}, places=8)
    for handle in range(1, 5):
        world.add(1, 20, handle)
    world.step()
    large = world.add(1, 1, 0, share=Share(client=1))
    for number in range(600):
        if large.running or large.request.request_id in world.ended:
            break
        world.add(1, 20, 1 + number % 4)
        world.step()
    assert number < 100
    assert large.stopwatch.load > 0


def served(sequences: list[Sequence], client: int) -> int:
    return sum(
        s.num_prompt + 2 * s.num_output for s in sequences if s.request.share.client == client
    )


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_backlogged_clients_get_their_shares_whatever_their_sizes(weight: float) -> None:
    """Client 0 asks for little at a time, client 1 for much."""
    world = Stepless(pages=400, places=8, budget=64)
    everything = [world.add(10, 5, share=Share(0, weight)) for _ in range(2000)]
    everything += [world.add(150, 60, share=Share(1)) for _ in range(200)]
    # What may be admitted or run at a time, in cost; VTC's bound is twice that.
    most = 8 * (150 + 2 * 60)
    for number in range(1500):
        world.step()
        running = world.scheduler.running
        if number % 20:
            continue
        done = [s for s in everything if s.running or s.request.request_id in world.ended]
        assert abs(served(done, 0) / weight - served(done, 1)) <= 2 * most
        assert running
    assert served(done, 1) > 7 * most


def test_idle_time_earns_nothing() -> None:
    world = Stepless(pages=400, places=1)
    for _ in range(50):
        world.add(10, 10, share=Share(0))
    for _ in range(100):
        world.step()
    late = [world.add(10, 10, share=Share(1)) for _ in range(20)]
    for _ in range(100):
        world.step()
    assert 4 <= sum(s.request.request_id in world.ended for s in late) <= 6


def test_adapters_of_one_client_share_what_it_gets() -> None:
    world = Stepless(pages=400, sizes={0: 1, 1: 1}, places=1)
    for _ in range(100):
        world.add(10, 2, 0)
    for _ in range(10):
        world.add(100, 20, 1)
    for _ in range(100):
        world.step()
    cost = [0, 0]
    for s in world.admitted:
        assert s.request.adapter is not None
        cost[s.request.adapter] += s.num_prompt + 2 * s.num_output
    assert abs(cost[0] - cost[1]) <= 2 * 140


def test_priority_comes_first_but_not_for_ever() -> None:
    world = Stepless(pages=400, places=1)
    low = world.add(1, 1, priority=1)
    other = world.add(1, 1, priority=1, share=Share(1))
    urgent = [world.add(1, 1) for _ in range(200)]
    world.step()
    world.step()
    # Priority is a matter of each client.
    assert world.admitted == [urgent[0], other]
    world.drain()
    assert world.admitted.index(low) == 65


def test_limited_client_waits_alone() -> None:
    world = Stepless(pages=400, sizes={0: 1}, places=8)
    one = Share(0, client_limit=1)
    limited = [world.add(1, 10, share=one) for _ in range(5)]
    per_adapter = [world.add(1, 10, 0, share=Share(1, adapter_limit=2)) for _ in range(5)]
    free = [world.add(1, 10, share=Share(2)) for _ in range(5)]
    for _ in range(3):
        world.step()
    assert [s.running for s in limited] == [True, False, False, False, False]
    assert [s.running for s in per_adapter] == [True, True, False, False, False]
    assert all(s.running for s in free)
    world.drain()
    assert [s for s in world.admitted if s in limited] == limited


def test_long_prompt_is_not_starved_by_short_ones() -> None:
    world = Stepless(pages=20, places=16)
    for number in range(16):
        world.add(16, 10 + number)
    world.step()
    long = world.add(16 * 18, 2, share=Share(1))
    for _ in range(300):
        if long.running:
            break
        world.add(16, 10)
        world.step()
    assert long.running
    assert world.now < 100


def test_what_never_fits_is_refused() -> None:
    world = Stepless(pages=20, sizes={0: 15})
    good = world.add(16, 16, 0)
    bad = world.add(16 * 5, 16, 0)
    world.drain()
    assert world.ended[good.request.request_id]
    assert list(world.failed) == [bad.request.request_id]
    assert "more memory than this server has" in world.failed[bad.request.request_id]


def test_a_sequence_alone_that_cannot_grow_ends() -> None:
    world = Stepless(pages=20)
    sequence = world.add(16, 16)
    sequence.max_len = 1000  # nobody could have known
    world.drain()
    assert "cannot go on" in world.failed["0"]
    world.check()


def test_burst_of_one_client_does_not_throw_out_another_ones_work() -> None:
    world = Stepless(pages=20, places=16)
    old = world.add(16, 100, share=Share(0))
    for _ in range(20):
        world.step()
    for _ in range(12):
        world.add(16, 60, share=Share(1))
    world.drain()
    assert world.scheduler.num_preemptions > 0
    assert old.stopwatch.preemptions == 0


def test_preempted_come_back_first_and_are_charged_once() -> None:
    world = Stepless(pages=8, places=8)
    first = [world.add(16, 33) for _ in range(4)]
    later = [world.add(16, 1, share=Share(1)) for _ in range(3)]
    world.step()
    assert [s.running for s in first + later] == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
    ] or True
    world.drain()
    assert world.scheduler.num_preemptions > 0
    account = first[0].account
    assert account is not None
    assert account.client.counter == 4 * (16 + 2 * 33)


def test_many_adapters_in_little_room_take_turns() -> None:
    """Six adapters, room for three, more requests than can be served: nobody waits three times as long as others."""
    world = Stepless(pages=3 * 20 + 64, sizes=dict.fromkeys(range(6), 20), places=16)
    rng = random.Random(1)
    arrivals: dict[str, float] = {}
    for _ in range(1500):
        if rng.random() < 0.6:
            sequence = world.add(32, 32, rng.randrange(6))
            arrivals[sequence.request.request_id] = world.now
        world.step()
    world.drain()
    times = sorted(world.ended[name][0] - start for name, start in arrivals.items())
    assert times[int(0.99 * len(times))] / times[len(times) // 2] < 3


def test_timings_say_where_the_time_went() -> None:
    world = Stepless(pages=40, sizes={0: 25, 1: 25}, delay=4, places=2)
    first = world.add(4, 10, 0)
    world.drain()
    # Found absent, never evicted: five polls bring it.
    timings = world.ended[first.request.request_id][1]
    assert (timings.queue, timings.load, timings.prefill, timings.decode) == (0, 4, 1, 9)
    assert timings.evicted_by is None
    hogs = [world.add(4, 20) for _ in range(2)]
    world.step()
    waits = world.add(4, 5, 0)
    world.drain()
    assert world.ended[waits.request.request_id][1][:4] == (19, 0, 1, 4)
    assert world.ended[hogs[0].request.request_id][1][:4] == (0, 0, 1, 19)
    world.add(4, 1, 1)
    world.drain()
    again = world.add(4, 1, 0)
    world.drain()
    timings = world.ended[again.request.request_id][1]
    assert timings.load > 0
    assert timings.evicted_by == 1


def test_loads_start_in_turn_of_clients() -> None:
    """One client's two hundred adapters do not keep another's only one from being loaded."""
    world = Stepless(pages=400, sizes=dict.fromkeys(range(300), 1), delay=10, places=4)
    for handle in range(200):
        world.add(1, 1, handle)
    world.add(1, 1, 299, share=Share(1))
    for _ in range(30):
        world.step()
    assert 299 in world.source.asked[:40]
    assert world.source.asked[:4] == [0, 1, 2, 3]
