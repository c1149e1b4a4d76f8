"""Ranges never overlap, are as low, as high and as adjacent as promised, and merge again when they are free."""

from hypothesis import given
from hypothesis import strategies as st

from loraplex.engine import ranges
from loraplex.engine.ranges import RangeAllocator, runs

SIZE = 40
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "pieces", "last", "give", "give one"]), st.integers(1, 9)),
    max_size=80,
)


def lowest_gap(free: set[int], length: int) -> int | None:
    return next((n for n in sorted(free) if set(range(n, n + length)) <= free), None)


@given(STEPS)
def test_like_a_set(steps: list[tuple[str, int]]) -> None:
    allocator, free, held = RangeAllocator(SIZE), set(range(SIZE)), list[list[int]]()
    for what, number in steps:
        taken: list[int] = []
        if what == "take":
            start = allocator.take(number)
            assert start == lowest_gap(free, number)
            taken = [] if start is None else list(range(start, start + number))
        elif what == "pieces" and number <= len(free):
            taken = allocator.take_pieces(number)
            if (start := lowest_gap(free, number)) is not None:
                assert taken == list(range(start, start + number))
            else:
                assert taken == sorted(free)[:number]
        elif what == "last" and free:
            count = min(number, len(free))
            taken = allocator.take_last(count)
            assert taken == sorted(free, reverse=True)[:count]
        elif what == "give" and held:
            numbers = held.pop(number % len(held))
            for begin, end in runs(numbers):
                allocator.give(numbers[begin], end - begin)
            free |= set(numbers)
        elif what == "give one" and held:
            numbers = held[number % len(held)]
            if numbers:
                free.add(numbers[0])
                allocator.give(numbers.pop(0))
        assert set(taken) <= free
        free -= set(taken)
        held += [taken] if taken else []
        assert allocator.free() == sorted(free)
        assert allocator.num_free == len(free)
        assert len(allocator._starts) == len(runs(sorted(free))), "neighbours merge"


def test_pieces_are_put_together_where_too_many_gaps_are_short() -> None:
    size = 4 * ranges._MOST_GAPS
    allocator = RangeAllocator(size)
    allocator.take(size)
    for number in range(0, size, 2):
        allocator.give(number)
    assert allocator.take_pieces(3) == [0, 2, 4]


def test_nothing_can_be_taken_from_nothing() -> None:
    assert RangeAllocator(0).take(1) is None
    assert RangeAllocator(0).num_free == 0
