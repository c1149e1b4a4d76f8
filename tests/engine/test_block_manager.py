"""Blocks are never lost, never handed out twice, and shared exactly between equal prefixes of one owner."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence


def sequence(tokens: list[int], adapter: int | None = None, salt: bytes = b"") -> Sequence:
    request = Request("r", tuple(tokens), SamplingParams(), adapter, salt)
    return Sequence(request, 0, None)


def run(blocks: BlockManager, seq: Sequence) -> None:
    """What the engine does for a whole prompt in one step."""
    assert blocks.grow(seq, len(seq.tokens))
    seq.num_computed = len(seq.tokens)
    blocks.publish(seq)


def test_equal_prefix_is_shared_and_last_token_is_left_to_compute() -> None:
    blocks = BlockManager(PagePool(8))
    tokens = list(range(2 * BLOCK_SIZE))
    first, second = sequence(tokens), sequence(tokens)
    run(blocks, first)
    blocks.match_prefix(second)
    # Both blocks are cached, but with both there would be nothing left to compute a logit from.
    assert second.blocks == first.blocks[:1]
    assert second.num_computed == BLOCK_SIZE


@pytest.mark.parametrize(
    ("adapter", "salt"), [(1, b""), (None, b"other tenant")], ids=["adapter", "salt"]
)
def test_other_adapter_or_salt_shares_nothing(adapter: int | None, salt: bytes) -> None:
    blocks = BlockManager(PagePool(8))
    tokens = list(range(3 * BLOCK_SIZE))
    run(blocks, sequence(tokens))
    other = sequence(tokens, adapter, salt)
    blocks.match_prefix(other)
    assert other.blocks == []


def test_salt_cannot_imitate_an_adapter() -> None:
    blocks = BlockManager(PagePool(8))
    tokens = list(range(3 * BLOCK_SIZE))
    run(blocks, sequence(tokens, adapter=7))
    forged = sequence(tokens, None, (7).to_bytes(8, "little", signed=True))
    blocks.match_prefix(forged)
    assert forged.blocks == []


def test_different_beginning_with_equal_second_block_shares_nothing() -> None:
    blocks = BlockManager(PagePool(8))
    run(blocks, sequence([1] * BLOCK_SIZE + [2] * BLOCK_SIZE))
    other = sequence([3] * BLOCK_SIZE + [2] * BLOCK_SIZE + [4])
    blocks.match_prefix(other)
    assert other.blocks == []


def test_purge_hides_an_adapters_blocks_even_while_held() -> None:
    blocks = BlockManager(PagePool(8))
    tokens = list(range(3 * BLOCK_SIZE))
    held = sequence(tokens, adapter=1)
    run(blocks, held)
    blocks.purge(1)
    again = sequence(tokens, adapter=1)
    blocks.match_prefix(again)
    assert again.blocks == []
    blocks.check_integrity([held])


def test_a_block_with_an_unknown_token_is_not_published() -> None:
    """Two blocks are computed, but the last token of the second has been sampled by a step nobody has read."""
    blocks = BlockManager(PagePool(8))
    tokens = list(range(2 * BLOCK_SIZE))
    ahead = sequence(tokens[:-1])
    assert blocks.grow(ahead, len(tokens))
    ahead.pending = 1
    ahead.num_computed = len(tokens)
    blocks.publish(ahead)
    assert len(ahead.block_hashes) == 1
    ahead.tokens.append(tokens[-1])
    ahead.pending = 0
    blocks.publish(ahead)
    other = sequence([*tokens, 99])
    blocks.match_prefix(other)
    assert other.blocks == ahead.blocks


def test_tables_grow_in_both_directions() -> None:
    blocks = BlockManager(PagePool(400))
    held = [sequence([7]) for _ in range(100)] + [sequence([1] * 40 * BLOCK_SIZE)]
    for seq in held:
        assert blocks.grow(seq, len(seq.tokens))
    blocks.check_integrity(held)
    assert len({seq.row for seq in held}) == len(held)


def test_grow_refuses_without_side_effect() -> None:
    blocks = BlockManager(PagePool(2))
    seq = sequence(list(range(3 * BLOCK_SIZE)))
    assert not blocks.grow(seq, len(seq.tokens))
    assert seq.blocks == []
    assert blocks.num_free == 2


def test_pages_come_from_the_high_end_and_go_back_when_blank() -> None:
    pages = PagePool(4, 2)
    blocks = BlockManager(pages, enable_prefix_cache=False)
    first, second = sequence([1] * 3 * BLOCK_SIZE), sequence([2] * BLOCK_SIZE)
    assert blocks.grow(first, len(first.tokens))
    assert first.blocks == [6, 7, 4]
    assert blocks.grow(second, len(second.tokens))
    assert second.blocks == [5], "a page that is held already goes first"
    blocks.release(first)
    assert pages.free_pages() == [0, 1, 3]
    blocks.release(second)
    assert pages.free_pages() == [0, 1, 2, 3]


def test_blocks_that_were_freed_first_give_way_first() -> None:
    blocks = BlockManager(PagePool(4))
    old, new = (sequence([n] * (BLOCK_SIZE + 1)) for n in (1, 2))
    for seq in (old, new):
        run(blocks, seq)
    for seq in (old, new):
        blocks.release(seq)
    third = sequence([3] * 3 * BLOCK_SIZE)  # two pages are blank, so one prefix must go
    run(blocks, third)
    again = sequence([1] * (BLOCK_SIZE + 1))
    blocks.match_prefix(again)
    assert again.blocks == []
    again = sequence([2] * (BLOCK_SIZE + 1))
    blocks.match_prefix(again)
    assert len(again.blocks) == 1


def test_a_block_is_overwritten_before_another_adapter_gets_it() -> None:
    pages = PagePool(1)
    blocks = BlockManager(pages)
    for adapter, expected in ((None, []), (None, []), (1, [0]), (1, []), (2, [0]), (None, [0])):
        seq = sequence([5], adapter)
        assert blocks.grow(seq, 1)
        assert pages.contents.pending == expected
        pages.contents.pending.clear()
        blocks.release(seq)


class BlockMachine(RuleBasedStateMachine):
    """Random admissions, steps and releases keep the books straight, and a shared block holds equal tokens."""

    @initialize(per_page=st.sampled_from([1, 3, 12]))
    def start(self, per_page: int) -> None:
        self.blocks = BlockManager(PagePool(12 // per_page, per_page))
        self.running: list[Sequence] = []
        self.contents: dict[int, tuple[object, ...]] = {}

    @rule(
        length=st.integers(1, 70), alphabet=st.integers(1, 2), adapter=st.sampled_from([None, 0, 1])
    )
    def admit(self, length: int, alphabet: int, adapter: int | None) -> None:
        seq = sequence([random.randrange(alphabet) for _ in range(length)], adapter)
        self.blocks.match_prefix(seq)
        for index, block in enumerate(seq.blocks):
            prefix = tuple(seq.tokens[: (index + 1) * BLOCK_SIZE])
            assert self.contents[block] == (adapter, prefix)
        if not self.blocks.grow(seq, length):
            self.blocks.release(seq)
            return
        seq.num_computed = length
        for index in range(length // BLOCK_SIZE):
            prefix = tuple(seq.tokens[: (index + 1) * BLOCK_SIZE])
            self.contents[seq.blocks[index]] = (adapter, prefix)
        self.blocks.publish(seq)
        self.running.append(seq)

    @rule(pick=st.integers(0, 1000))
    def release(self, pick: int) -> None:
        if self.running:
            self.blocks.release(self.running.pop(pick % len(self.running)))

    @rule(adapter=st.integers(0, 1))
    def purge(self, adapter: int) -> None:
        self.blocks.purge(adapter)

    @invariant()
    def books_are_straight(self) -> None:
        if not hasattr(self, "blocks"):  # before `start`
            return
        self.blocks.check_integrity(self.running)
        assert self.blocks.num_free == 12 - len({b for s in self.running for b in s.blocks})


BlockMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBlockMachine = BlockMachine.TestCase
