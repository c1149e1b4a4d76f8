"""A laid-out step says, token by token, what a plain loop over its sequences would say."""

import random

import numpy as np
import pytest
import torch

from loraplex.engine.batch import lay_out, move
from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.scheduler import Scheduled
from loraplex.engine.sequence import Sequence
from loraplex.engine.transfer import to_device

LAST_IDS = torch.arange(5000, 5016)


def schedule_of(rng: random.Random, blocks: BlockManager, *, decode: bool) -> list[Scheduled]:
    """Sequences of any progress: at a prompt's beginning or middle, decoding, or with a token nobody has read."""
    scheduled = []
    for _ in range(rng.randint(1, 12)):
        length = rng.randint(2, 70)
        prompt = tuple(rng.randrange(1000) for _ in range(length))
        sequence = Sequence(Request("r", prompt, SamplingParams()), 0, None)
        sequence.slot = rng.choice((None, 0, 3, 4))
        sequence.pending = int(rng.random() < 0.5)
        sequence.sampled_row = rng.randrange(len(LAST_IDS))
        if sequence.pending:
            sequence.num_computed, count = length, 1
        elif decode:
            sequence.num_computed, count = length - 1, 1
        else:
            sequence.num_computed = rng.randrange(length)
            count = rng.randint(1, length - sequence.num_computed)
        assert blocks.grow(sequence, length + sequence.pending)
        scheduled.append(Scheduled(sequence, count))
    return scheduled


@pytest.mark.parametrize("decode", [False, True], ids=["any", "decode"])
@pytest.mark.parametrize("seed", range(8))
def test_every_token_is_where_a_plain_loop_puts_it(decode: bool, seed: int) -> None:
    rng = random.Random(seed)
    blocks = BlockManager(PagePool(100))
    scheduled = schedule_of(rng, blocks, decode=decode)
    host = lay_out(scheduled, blocks.tables)
    assert host.is_decode or not decode
    batch = move(host, 8, LAST_IDS)

    ordered = sorted(scheduled, key=lambda item: (item[0].slot is None, item[0].slot or 0))
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int | None] = []
    sampled: list[tuple[Sequence, int]] = []
    for row, (sequence, count) in enumerate(ordered):
        known = [*sequence.tokens, int(LAST_IDS[sequence.sampled_row])][
            : len(sequence.tokens) + sequence.pending
        ]
        end = sequence.num_computed + count
        ids += known[sequence.num_computed : end]
        positions += range(sequence.num_computed, end)
        slots += [sequence.slot] * count
        if end == len(known):
            sampled.append((sequence, len(ids) - 1))
        places = [
            sequence.blocks[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(end)
        ]
        assert batch.kv_slots.tolist()[len(ids) - count : len(ids)] == places[-count:]
        used = -(-end // BLOCK_SIZE)
        assert batch.attention.block_tables[row, :used].tolist() == sequence.blocks[:used]
        assert (batch.attention.query_lens[row], batch.attention.kv_lens[row]) == (count, end)
        assert batch.attention.query_starts[row + 1] == len(ids)
    assert batch.input_ids.tolist() == ids
    assert batch.positions.tolist() == positions
    assert batch.attention.seq_lens.tolist() == list(batch.attention.kv_lens)
    assert host.sampled == tuple(sequence for sequence, _ in sampled)
    rows = range(len(ids)) if batch.sampled_rows is None else batch.sampled_rows.tolist()
    assert list(rows) == [row for _, row in sampled]
    assert rows_of(host.spans) == {i: slot for i, slot in enumerate(slots) if slot is not None}
    assert rows_of(host.sampled_spans) == {
        i: s.slot for i, (s, _) in enumerate(sampled) if s.slot is not None
    }


def rows_of(spans: tuple[tuple[int, int, int], ...]) -> dict[int, int]:
    assert len({slot for slot, _, _ in spans}) == len(spans)
    return {row: slot for slot, start, end in spans for row in range(start, end)}


@pytest.mark.gpu
def test_arrays_cross_to_the_device_whole() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 3, 17, 1000):
        arrays: list[np.ndarray] = [
            rng.integers(0, 99, size),
            rng.integers(0, 99, (size, 5)).astype(np.int32).T,
            rng.integers(0, 99, size),
        ]
        moved = to_device(arrays, torch.device("cuda"))
        for tensor, array in zip(moved, arrays, strict=True):
            assert tensor.cpu().numpy().dtype == array.dtype
            assert np.array_equal(tensor.cpu().numpy(), array)
