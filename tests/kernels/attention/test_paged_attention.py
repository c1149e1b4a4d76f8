"""Paged attention: kernel and reference against dense float64 attention, in a cache whose every unused place is NaN."""

import pytest
import torch

from loraplex.kernels.attention.kernel import paged_attention_triton
from loraplex.kernels.attention.reference import paged_attention_reference
from support.numerics import assert_near
from support.paged_case import Op, PagedCase, Sequences

OPS = pytest.mark.parametrize(
    "op", [paged_attention_triton, paged_attention_reference], ids=["kernel", "reference"]
)


MIXED = ((1, 1), (1, 37), (5, 5), (1, 16), (9, 30), (3, 70), (1, 81))
DECODE = ((1, 2), (1, 33), (1, 17), (1, 100))


@OPS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", [64, 80, 128])
def test_chunked_prefill_mixed_with_decode(
    op: Op, head_dim: int, dtype: torch.dtype, device: torch.device
) -> None:
    case = PagedCase(MIXED, 4, 2, head_dim, dtype, device)
    assert_near("attended", case.run(op), case.expected())


@OPS
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 6, 7, 8])
def test_every_group_size(op: Op, group: int, device: torch.device) -> None:
    case = PagedCase(((1, 20), (4, 35)), 2 * group, 2, 16, torch.float32, device)
    assert_near("attended", case.run(op), case.expected())
    case = PagedCase(((1, 20), (1, 35)), group, 1, 96, torch.float32, device)
    assert_near("attended", case.run(op), case.expected())


@OPS
@pytest.mark.parametrize("window", [1, 7, 16, 33, 1000])
@pytest.mark.parametrize("sequences", [MIXED, DECODE], ids=["mixed", "decode"])
def test_sliding_window(op: Op, sequences: Sequences, window: int, device: torch.device) -> None:
    case = PagedCase(sequences, 2, 1, 32, torch.float32, device)
    assert_near("attended", case.run(op, window=window), case.expected(window=window))


@OPS
@pytest.mark.parametrize("window", [0, 20])
def test_soft_cap(op: Op, window: int, device: torch.device) -> None:
    case = PagedCase(MIXED, 4, 2, 32, torch.float32, device)
    case.q.mul_(8)  # scores well beyond the cap
    expected = case.expected(window=window, soft_cap=5.0)
    assert_near("attended", case.run(op, window=window, soft_cap=5.0), expected)


@OPS
def test_blocks_before_the_window_are_never_read(op: Op, device: torch.device) -> None:
    case = PagedCase(((1, 200), (4, 200)), 2, 1, 32, torch.float32, device)
    expected = case.expected(window=20)
    case.meta.block_tables[:, :10] = 0  # given back by the engine: NaN, all of it
    assert_near("attended", case.run(op, window=20), expected)


@OPS
def test_a_broken_neighbour_breaks_only_itself(op: Op, device: torch.device) -> None:
    case = PagedCase(((1, 40), (1, 50), (6, 20), (1, 60)), 4, 2, 32, torch.float32, device)
    clean = case.run(op)
    case.v_cache[case.meta.block_tables[1, :3].long()] = float("nan")
    case.k_cache[case.meta.block_tables[2, :1].long()] = float("nan")
    dirty = case.run(op)
    assert torch.equal(dirty[[0, 8]], clean[[0, 8]])
    assert dirty[1:8].isnan().all()


@OPS
def test_very_different_lengths_in_one_decode_batch(op: Op, device: torch.device) -> None:
    sequences = ((1, 300), *((1, n) for n in range(1, 12)))
    case = PagedCase(sequences, 2, 1, 16, torch.float32, device)
    assert_near("attended", case.run(op), case.expected())


def test_a_tile_of_queries_boundary(device: torch.device) -> None:
    # 64 rows of a tile hold 21 tokens of a group of 3, with one row to spare.
    case = PagedCase(((43, 50), (1, 5), (22, 22)), 3, 1, 16, torch.float32, device)
    assert_near("attended", case.run(paged_attention_triton), case.expected())


def test_padding_sequences_of_a_captured_graph_give_zeros(device: torch.device) -> None:
    case = PagedCase(((1, 20), (1, 5)), 2, 1, 16, torch.float32, device)
    case.meta.seq_lens[1] = 0
    out = case.run(paged_attention_triton)
    assert_near("attended", out[0], case.expected()[0])
    assert not out[1].any()


@pytest.mark.gpu
@pytest.mark.parametrize("window", [0, 1000])
def test_model_sized(window: int, device: torch.device) -> None:
    sequences = ((1, 3000), (513, 2000), (1, 17), (300, 300))
    case = PagedCase(sequences, 32, 8, 128, torch.bfloat16, device)
    expected = case.expected(window=window)
    assert_near("attended", case.run(paged_attention_triton, window=window), expected)
