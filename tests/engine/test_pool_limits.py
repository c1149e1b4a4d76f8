"""What nobody waits for takes neither loads nor memory from what somebody waits for; making room costs little."""

from collections.abc import Container

import pytest

from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.eviction import EvictionQueue
from loraplex.engine.lora_pool import LoRAPool
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import EVICTED_BY_KV, Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence
from support.late_arena import BLOCK, MODULES, LateArena, LateSource
from support.stepless import Stepless


def test_pins_take_few_of_the_places_among_the_loads() -> None:
    """More pins than may load at a time, from a source that takes some steps for each."""
    world = Stepless(pages=100, sizes=dict.fromkeys(range(60), 1), delay=5)
    for handle in range(1, 41):
        world.pool.pin(handle, True)
    world.step()
    sequence = world.add(4, 4, 0)
    world.step()
    assert 0 in world.source.asked, "no pin had to come first"
    while not sequence.running:
        assert world.now < 10
        world.step()
    while world.pool.resident < 41:
        assert world.now < 200, "the pins come nevertheless"
        world.step()


def test_pins_that_find_no_room_stop_no_load() -> None:
    """They wait on the host while running requests have the memory, and leave places there to the others."""
    world = Stepless(pages=100, sizes={0: 1} | dict.fromkeys(range(1, 17), 3), budget=4096)
    for num_pages in (24, 24, 24, 26):
        world.add(16 * num_pages - 12, 12)
    world.step()
    assert len(world.scheduler.running) == 4
    for handle in range(1, 17):
        world.pool.pin(handle, True)
    for _ in range(3):
        world.step()
    assert world.pool.resident == 0, "2 pages are free, and a pin needs 3"
    sequence = world.add(4, 8, 0)
    for _ in range(4):
        world.step()
    assert sequence.running
    assert len(world.scheduler.running) == 5, "it has waited for no end of another one"
    world.drain(50)
    for _ in range(20):
        world.step()
    assert world.pool.resident == 17


def test_a_warm_adapter_larger_than_the_arena_does_not_stay() -> None:
    """It would be asked for again and again, and nothing would ever be idle."""
    pages = PagePool(4)
    arena = LateArena(pages, BLOCK)
    source = LateSource(BLOCK, {0: 6, 1: 1})
    pool = LoRAPool(MODULES, source, arena)
    pool.warm([0, 1])
    for _ in range(10):
        pool.poll()
        pool.keep_waiting(frozenset())
        for handle in list(source.wanted):
            source.answer(handle)
        while arena.under_way:
            arena.end_copy()
    assert pool.is_ready(1)
    assert not pool.has_work
    assert not pool.loading
    assert not source.out[0], "its copy on the host is given back"


@pytest.mark.parametrize("cached", [20, 80])
def test_making_room_asks_each_holder_once_and_again_after_it_gave(
    cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find the adapter that goes first can take a look at each that is waited for: not once per page of KV."""
    pages = PagePool(cached + 8)
    arena = LateArena(pages, BLOCK)
    source = LateSource(BLOCK, dict.fromkeys(range(8), 1))
    blocks = BlockManager(pages)
    pool = LoRAPool(MODULES, source, arena)
    tokens = cached * BLOCK_SIZE
    sequence = Sequence(Request("r", (0,) * tokens, SamplingParams()), 0, None)
    assert blocks.grow(sequence, tokens)
    sequence.num_computed = tokens
    blocks.publish(sequence)
    blocks.release(sequence)  # the prefix is older than all adapters
    pool.warm(range(8))
    while pool.resident < 8:
        pool.poll()
        pool.keep_waiting(frozenset())
        for handle in list(source.wanted):
            source.answer(handle)
        while arena.under_way:
            arena.end_copy()
    assert pages.num_free == 0
    calls = 0
    first = EvictionQueue.first

    def counted(queue: EvictionQueue, spared: Container[int] = ()) -> int | None:
        nonlocal calls
        calls += 1
        return first(queue, spared)

    monkeypatch.setattr(EvictionQueue, "first", counted)
    pages.make_room(cached + 2, by=EVICTED_BY_KV)
    assert pages.num_free == cached + 2
    assert pool.resident == 6
    assert calls == 1 + 2 * 2, "its age at first; to give up one and its age then, for each of two"
    pages.make_room(cached + 2, by=EVICTED_BY_KV)
    assert calls == 5, "there is room already"
