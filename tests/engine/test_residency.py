"""Which adapter is brought, when, and which one goes for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraplex.engine import adapter_history
from loraplex.engine.adapter_history import AdapterHistory
from loraplex.engine.adapter_report import PinRefusedError, Tier
from loraplex.engine.adapter_slots import adjacent_bases
from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.eviction import EvictionQueue
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import EVICTED_BY_KV, Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence
from loraplex.kernels.lora.tables import adjacent_base
from support.late_arena import BLOCK, MODULES, LateArena, LateSource

READY, LOADING, FULL = Residency.READY, Residency.LOADING, Residency.FULL


class Setup:
    """An arena of one-block pages; adapter 9 takes two pages, all others one."""

    def __init__(self, pages: int) -> None:
        self.pages = PagePool(pages)
        self.arena = LateArena(self.pages, BLOCK)
        self.source = LateSource(BLOCK, {handle: 1 + (handle == 9) for handle in range(40)})
        self.blocks = BlockManager(self.pages)
        self.pool = LoRAPool(MODULES, self.source, self.arena)

    def step(self, *wanted: int) -> None:
        self.pool.poll()
        self.pool.keep_waiting(set(wanted))

    def bring(self, handle: int, seconds: float = 0.1) -> None:
        """Load an adapter for a request that waits for it, and no other does."""
        self.pool.prefetch(handle)
        self.source.answer(handle, seconds=seconds)
        self.step(handle)
        self.arena.end_copy()
        self.step(handle)
        assert self.pool.is_ready(handle)

    def use(self, handle: int) -> None:
        """Run one request."""
        assert self.pool.acquire(handle) is READY
        self.pool.note_use(handle)
        self.pool.release(handle)

    def run(self, tokens: int, token: int = 0) -> Sequence:
        sequence = Sequence(Request("r", (token,) * tokens, SamplingParams()), 0, None)
        assert self.blocks.grow(sequence, tokens)
        sequence.num_computed = tokens
        self.blocks.publish(sequence)
        return sequence

    def here(self) -> set[int]:
        return {r.handle for r in self.pool.reports() if r.tier is Tier.DEVICE}


def test_an_adapter_is_ready_when_its_copy_has_been_seen_to_end() -> None:
    setup = Setup(4)
    assert setup.pool.acquire(0) is LOADING
    setup.source.answer(0)
    setup.step(0)
    assert setup.pool.acquire(0) is LOADING
    assert setup.source.out[0], "the host copy is still being read"
    setup.arena.end_copy()
    assert setup.pool.acquire(0) is LOADING, "nobody has looked yet"
    setup.step(0)
    assert not setup.source.out[0]
    assert setup.pool.acquire(0) is READY


def test_few_copies_begin_in_one_step() -> None:
    setup = Setup(40)
    wanted = tuple(range(9))
    for handle in wanted:
        setup.pool.prefetch(handle)
        setup.source.answer(handle)
    for expected in (4, 8, 9):
        setup.step(*wanted)
        assert setup.pool.acquire(8) is LOADING
        assert len(setup.arena.under_way) == expected


def test_adapters_and_blocks_come_from_opposite_ends() -> None:
    setup = Setup(6)
    setup.bring(9)
    sequence = setup.run(20)
    assert setup.pool._places.ready[9].pages == [0, 1]
    assert sequence.blocks == [5, 4]


def test_what_waiting_requests_want_is_not_given_up_for_another_of_them() -> None:
    setup = Setup(2)
    setup.bring(0)
    setup.bring(1)
    assert setup.pool.acquire(1) is READY
    setup.pool.prefetch(2)
    setup.source.answer(2)
    setup.step(0, 2)
    assert setup.here() == {0, 1}, "0 is wanted, 1 in use"
    assert setup.pool.acquire(2) is FULL
    assert setup.pool.acquire(2, insist=True) is LOADING
    assert setup.here() == {1}
    assert setup.pool.last_evictor(0) == 2


def test_nobody_running_means_that_room_is_made() -> None:
    """Otherwise two waiting requests could wait for each other."""
    setup = Setup(2)
    setup.bring(0)
    setup.bring(1)
    setup.pool.prefetch(2)
    setup.source.answer(2)
    setup.step(0, 1, 2)
    assert setup.pool.acquire(2) is LOADING
    assert len(setup.here()) == 1


def test_the_cheaper_and_the_rarer_adapter_goes_first() -> None:
    setup = Setup(3)
    setup.bring(0, seconds=0.0)
    setup.bring(1, seconds=0.2)  # was in the database only
    setup.bring(2, seconds=0.0)
    for handle in (2, 2, 0, 1):
        setup.use(handle)
    for newcomer, here in ((3, {1, 2, 3}), (4, {1, 2, 4})):
        setup.bring(newcomer, seconds=0.0)
        assert setup.here() == here


def test_what_was_precious_long_ago_goes_in_the_end() -> None:
    setup = Setup(2)
    setup.bring(0, seconds=0.01)
    for _ in range(5):
        setup.use(0)
    for number in range(60):
        handle = 1 + number % 30
        setup.bring(handle, seconds=0.01)
        setup.use(handle)
        if 0 not in setup.here():
            break
    assert 3 < number < 50


def test_a_returning_adapter_is_no_stranger() -> None:
    setup = Setup(2)
    setup.bring(0, seconds=0.0)
    for _ in range(20):
        setup.use(0)
    sequence = setup.run(30)  # takes all
    assert setup.here() == set()
    setup.blocks.release(sequence)
    setup.blocks.purge(0)
    setup.bring(0, seconds=0.0)
    setup.bring(1, seconds=0.0)
    setup.use(1)
    setup.bring(2, seconds=0.0)
    assert setup.here() == {0, 2}
    report = next(r for r in setup.pool.reports() if r.handle == 0)
    assert (report.loads, report.evictions, report.hits) == (2, 1, 19)
    assert report.last_evicted_by == EVICTED_BY_KV


@pytest.mark.parametrize("adapter_first", [True, False])
def test_of_a_prefix_and_an_adapter_the_one_unused_longer_goes(adapter_first: bool) -> None:
    setup = Setup(3)
    tokens = BLOCK_SIZE + 1

    def prefix() -> None:
        setup.blocks.release(setup.run(tokens, token=7))

    if adapter_first:
        setup.bring(0)
        prefix()
    else:
        prefix()
        setup.bring(0)
    # One cached block, one adapter, one free page.
    setup.run(2 * BLOCK_SIZE, token=8)
    assert (0 in setup.here()) is not adapter_first
    again = Sequence(Request("r", (7,) * tokens, SamplingParams()), 0, None)
    setup.blocks.match_prefix(again)
    assert bool(again.blocks) is adapter_first


def test_pinned_adapters_stay_and_leave_half_of_the_arena() -> None:
    setup = Setup(4)
    setup.bring(0)
    setup.pool.pin(0, True)
    setup.pool.pin(1, True)  # loads, though nobody asks
    assert setup.pool.has_work
    setup.step()
    assert setup.source.wanted == [1]
    setup.source.answer(1)
    setup.step()
    setup.arena.end_copy()
    setup.step()
    assert not setup.pool.has_work
    sequence = setup.run(2 * BLOCK_SIZE)
    assert setup.blocks.num_free == 0
    assert setup.here() == {0, 1}
    setup.blocks.release(sequence)
    setup.bring(2)
    with pytest.raises(PinRefusedError, match="half"):
        setup.pool.pin(2, True)
    assert setup.pool.fits(2, BLOCK_SIZE)
    assert not setup.pool.fits(2, BLOCK_SIZE + 1)
    setup.pool.pin(0, False)
    assert setup.pool.fits(2, BLOCK_SIZE + 1)


def test_a_pin_of_unknown_size_is_dropped_when_it_is_too_large() -> None:
    setup = Setup(3)
    setup.pool.pin(9, True)
    setup.step()
    setup.source.answer(9)
    setup.step()
    assert not any(report.pinned for report in setup.pool.reports())
    assert not setup.pool.has_work
    assert not setup.source.out[9]


def test_a_pin_that_cannot_be_loaded_is_dropped() -> None:
    setup = Setup(3)
    setup.pool.pin(0, True)
    setup.step()
    setup.source.answer(0, good=False)
    setup.step()
    assert not setup.pool.has_work
    assert setup.pool.acquire(0) is LOADING, "a request makes a new attempt"


def test_warm_adapters_take_free_pages_only() -> None:
    setup = Setup(2)
    setup.bring(0)
    setup.pool.warm([0, 1, 2])
    for _ in range(4):
        setup.step()
        for handle in list(setup.source.wanted):
            setup.source.answer(handle)
        while setup.arena.under_way:
            setup.arena.end_copy()
    assert setup.here() == {0, 1}
    assert not setup.pool.has_work
    assert setup.pool.evictions == 0
    assert not any(setup.source.out.values())


def test_a_load_under_way_at_the_time_of_an_unload_is_dropped() -> None:
    setup = Setup(2)
    setup.pool.prefetch(0)
    setup.pool.unload(0)
    assert setup.pool.acquire(0) is LOADING
    setup.source.answer(0)
    setup.step(0)
    assert not setup.source.out[0], "what it brought is older than the unload"
    assert setup.pool.acquire(0) is LOADING
    assert setup.source.wanted == [0]


def test_history_is_bounded_and_keeps_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_history, "_MAX_RECORDS", 4)
    history = AdapterHistory()
    for handle in range(20):
        history.use(handle)
        history.trim({0, 1})
    assert sorted(history.handles()) == [0, 1, 18, 19]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=60))
def test_the_queue_is_ordered_by_worth(entries: list[tuple[int, int]]) -> None:
    queue, worth = EvictionQueue(), dict[int, int]()
    for handle, value in entries:
        if handle in worth:
            queue.remove(handle)
            del worth[handle]
        else:
            queue.add(handle, value)
            worth[handle] = value
        spared = {h for h in worth if h % 3 == 0}
        for leave in (set(), spared):
            left = {h: w for h, w in worth.items() if h not in leave}
            found = queue.first(leave)
            assert (None if found is None else worth[found]) == min(left.values(), default=None)


def test_the_queue_does_not_remember_what_left_it() -> None:
    queue = EvictionQueue()
    for _ in range(10_000):
        queue.add(1, 1.0)
        queue.remove(1)
    assert len(queue._heap) < 200


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([4, 6]), st.booleans()), max_size=8),
    st.randoms(),
)
def test_adjacent_rows_of_all_modules_at_once(
    shapes: list[tuple[int, int, bool]], random: "np.random.Generator"
) -> None:
    rows: list[int] = []
    for rank, width, adjacent in shapes:
        start = random.randint(0, 1000)  # type: ignore[attr-defined]  # hypothesis gives random.Random
        own = [start + row * width for row in range(rank)]
        if not adjacent:
            own[-1] += 2
        rows += own
    ranks = np.array([rank for rank, _, _ in shapes], dtype=np.int64)
    firsts = ranks.cumsum() - ranks
    widths = np.array([width for _, width, _ in shapes], dtype=np.int64)
    got = adjacent_bases(np.array(rows, dtype=np.int64), firsts, ranks, widths).tolist()
    expected = [
        adjacent_base(np.array(rows[first : first + rank]), width)
        for first, rank, width in zip(firsts, ranks, widths, strict=True)
    ]
    assert got == expected
