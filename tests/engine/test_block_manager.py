"""Blocks are never lost, never handed out twice, and shared exactly between equal prefixes of one owner."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
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
    blocks = BlockManager(8)
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
    blocks = BlockManager(8)
    tokens = list(range(3 * BLOCK_SIZE))
    run(blocks, sequence(tokens))
    other = sequence(tokens, adapter, salt)
    blocks.match_prefix(other)
    assert other.blocks == []


def test_salt_cannot_imitate_an_adapter() -> None:
    blocks = BlockManager(8)
    tokens = list(range(3 * BLOCK_SIZE))
    run(blocks, sequence(tokens, adapter=7))
    forged = sequence(tokens, None, (7).to_bytes(8, "little", signed=True))
    blocks.match_prefix(forged)
    assert forged.blocks == []


def test_different_beginning_with_equal_second_block_shares_nothing() -> None:
    blocks = BlockManager(8)
    run(blocks, sequence([1] * BLOCK_SIZE + [2] * BLOCK_SIZE))
    other = sequence([3] * BLOCK_SIZE + [2] * BLOCK_SIZE + [4])
    blocks.match_prefix(other)
    assert other.blocks == []


def test_purge_hides_an_adapters_blocks_even_while_held() -> None:
    blocks = BlockManager(8)
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
    blocks = BlockManager(8)
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
    blocks = BlockManager(400)
    held = [sequence([7]) for _ in range(100)] + [sequence([1] * 40 * BLOCK_SIZE)]
    for seq in held:
        assert blocks.grow(seq, len(seq.tokens))
    blocks.check_integrity(held)
    assert len({seq.row for seq in held}) == len(held)


def test_grow_refuses_without_side_effect() -> None:
    blocks = BlockManager(2)
    seq = sequence(list(range(3 * BLOCK_SIZE)))
    assert not blocks.grow(seq, len(seq.tokens))
    assert seq.blocks == []
    assert blocks.num_free == 2


class BlockMachine(RuleBasedStateMachine):
    """Random admissions, steps and releases keep the books straight, and a shared block holds equal tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(12)
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
        self.blocks.check_integrity(self.running)


BlockMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBlockMachine = BlockMachine.TestCase
