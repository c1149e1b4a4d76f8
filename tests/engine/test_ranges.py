"""Ranges never overlap, and what was freed merges into what can be taken again."""

from hypothesis import given
from hypothesis import strategies as st

from loraplex.engine.ranges import RangeAllocator


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60))
def test_no_overlap_and_full_recovery(steps: list[tuple[bool, int]]) -> None:
    allocator = RangeAllocator(40)
    held: list[tuple[int, int]] = []
    for take, number in steps:
        if take:
            start = allocator.take(number)
            if start is not None:
                taken = set(range(start, start + number))
                assert max(taken) < 40
                assert not any(taken & set(range(s, s + n)) for s, n in held)
                held.append((start, number))
        elif held:
            allocator.give(*held.pop(number % len(held)))
        assert allocator.num_free == 40 - sum(n for _, n in held)
    for start, number in held:
        allocator.give(start, number)
    assert allocator.take(40) == 0
