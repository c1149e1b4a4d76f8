"""Room in host memory is made by giving up what is worth least, and never what is in use."""

import itertools
import random

import pytest
import torch

from loraplex.adapters.host_memory import TEMPORARY_BYTES, SharedMemory
from loraplex.adapters.host_tier import HostEntry, HostTier
from loraplex.adapters.worth import HALF_LIFE_SECONDS, Worth
from loraplex.engine.lora import LoRAWeights

UNIT = 4096


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Host:
    """A tier of `units` pages with a clock of its own."""

    def __init__(self, units: int) -> None:
        self.clock = Clock()
        self.worth = Worth(self.clock)
        self.memory = SharedMemory(SharedMemory.create(units * UNIT), units * UNIT)
        self.tier = HostTier(self.memory, self.worth)

    def put(self, name: str, units: int = 1, seconds: float = 1.0) -> HostEntry:
        """Bring an adapter, filled with a byte of its own, and let go of it."""
        entry = self.tier.reserve(name, units * UNIT)
        entry.buffer.data.fill_(hash(name) % 251)
        nothing = torch.empty(0).numpy()
        weights = LoRAWeights(entry.buffer.data, nothing, nothing, nothing, nothing)
        self.tier.keep(entry, weights)
        self.worth.used(name, entry.size, seconds)
        self.tier.release(entry)
        return entry

    def use(self, name: str, times: int = 1) -> None:
        entry = self.tier.get(name)
        assert entry is not None
        for _ in range(times):
            self.worth.used(name, entry.size)


def test_the_least_recently_used_of_equals_leave() -> None:
    host = Host(3)
    for name in "abc":
        host.put(name)
    host.use("a")
    host.put("d")
    assert set(host.tier.identities()) == {"a", "c", "d"}


def test_slow_and_often_used_ones_stay_small_ones_too() -> None:
    host = Host(10)
    host.put("slow", seconds=20)
    host.put("often")
    host.use("often", 5)
    host.put("large", 6, seconds=2)
    host.put("small")
    host.put("new", 5)  # one of 6 pages, or the stretch of all the others
    assert set(host.tier.identities()) == {"slow", "often", "small", "new"}


def test_use_counts_less_with_time_but_eviction_does_not_forget_it() -> None:
    clock = Clock()
    worth = Worth(clock)
    for _ in range(8):
        worth.used("morning", 1, 1.0)
    worth.evicted("morning")
    worth.used("once", 1, 1.0)
    worth.used("morning", 1, 1.0)
    assert worth.priority("morning") > worth.priority("once"), "it is back, and was a favourite"
    clock.now += 5 * HALF_LIFE_SECONDS
    worth.used("morning", 1, 1.0)
    worth.used("twice", 1, 1.0)
    worth.used("twice", 1, 1.0)
    assert worth.priority("twice") > worth.priority("morning")


def test_pinned_and_held_ones_stay_whatever_comes() -> None:
    host = Host(4)
    for name in "abcd":
        host.put(name)
    host.tier.pin({"a", "c"})
    held = host.tier.get("b")
    assert held is not None
    host.tier.hold(held)
    for number in range(5):
        host.put(f"new {number}")
    assert set(host.tier.identities()) == {"a", "b", "c", "new 4"}
    over = host.put("two", 2)  # no two pages beside each other can be had
    assert over.buffer.start >= host.memory.capacity
    assert host.tier.get("two") is None
    host.tier.pin(())
    assert host.put("two", 2).buffer.start < host.memory.capacity


def test_larger_than_everything_is_temporary_and_given_back() -> None:
    host = Host(4)
    host.put("a")
    entry = host.tier.reserve("huge", 5 * UNIT)
    entry.buffer.data.fill_(7)
    start = entry.buffer.start
    assert start >= host.memory.capacity
    assert host.tier.get("a") is not None, "nothing was given up for it"
    assert not host.tier.still_has("huge")
    nothing = torch.empty(0).numpy()
    host.tier.keep(entry, LoRAWeights(entry.buffer.data, nothing, nothing, nothing, nothing))
    assert host.tier.still_has("huge")
    host.tier.release(entry)
    assert not host.memory.region[start : start + 5 * UNIT].any(), "returned to the system"
    with pytest.raises(MemoryError):
        host.tier.reserve("too much", TEMPORARY_BYTES + 1)


def test_a_dropped_one_is_wiped_when_nobody_reads_it() -> None:
    host = Host(2)
    entry = host.put("a")
    host.tier.hold(entry)
    host.tier.drop("a", wipe=True)
    assert host.tier.get("a") is None
    assert host.tier.still_has("a")
    assert entry.buffer.data.any()
    host.tier.release(entry)
    assert not entry.buffer.data.any()
    assert host.tier.bytes == 0


def test_a_successor_leaves_alone_what_is_still_read_and_wipes_the_rest() -> None:
    units = 8
    fd = SharedMemory.create(units * UNIT)
    first = SharedMemory(fd, units * UNIT)
    for start in range(0, 6 * UNIT, UNIT):
        first.at(start, UNIT).data.fill_(9)
    temporary = first.temporary(UNIT)
    temporary.data.fill_(9)
    lost = first.temporary(UNIT)
    lost.data.fill_(9)
    held = [(2 * UNIT, UNIT), (temporary.start, UNIT)]
    skip = temporary.start + UNIT - first.capacity
    second = SharedMemory(fd, units * UNIT, skip=skip)
    second.wipe_all(held)
    full = [start // UNIT for start in range(0, units * UNIT, UNIT) if second.region[start]]
    assert full == [2]
    assert temporary.data.eq(9).all()
    assert not lost.data.any()
    tier = HostTier(second, Worth())
    entries = [tier.occupy(start, size) for start, size in held]
    starts = {tier.reserve(str(n), UNIT).buffer.start for n in range(7)}
    assert starts == {n * UNIT for n in range(units) if n != 2}
    assert tier.reserve("more", UNIT).buffer.start not in {*starts, temporary.start}
    for entry in entries:
        tier.release(entry)
    assert not second.region[2 * UNIT]
    assert tier.reserve("last", UNIT).buffer.start == 2 * UNIT


@pytest.mark.parametrize("seed", range(3))
def test_random_operations_against_a_model(seed: int) -> None:
    """Ranges never overlap, held bytes never change, the books balance."""
    random.seed(seed)
    host = Host(24)
    held: list[tuple[HostEntry, torch.Tensor]] = []
    for step in range(600):
        name = f"n{random.randrange(20)}"
        action = random.random()
        entry = host.tier.get(name)
        if action < 0.5 and entry is None:
            host.put(name, random.randint(1, 6), random.random())
        elif action < 0.75 and entry is not None:
            host.tier.hold(entry)
            held.append((entry, entry.buffer.data.clone()))
            host.use(name)
        elif action < 0.95 and held:
            entry, copy = held.pop(random.randrange(len(held)))
            assert torch.equal(entry.buffer.data, copy), step
            host.tier.release(entry)
        elif action >= 0.95:
            host.tier.drop(name, wipe=True)
        placed = {id(e): e for e, _ in held} | {
            id(e): e for e in map(host.tier.get, host.tier.identities()) if e is not None
        }
        inside = [e for e in placed.values() if e.buffer.start < host.memory.capacity]
        ranges = sorted((e.buffer.start, e.buffer.start + e.size) for e in inside)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
        assert host.tier.bytes == sum(e.size for e in inside) <= host.memory.capacity
    for entry, copy in held:
        assert torch.equal(entry.buffer.data, copy)
