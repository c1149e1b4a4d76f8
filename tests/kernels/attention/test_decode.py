"""Decode attention: keys split over programs, lengths read on the device, neighbours that must not matter."""

from dataclasses import replace

import pytest
import torch

from loraplex.kernels.attention import AttentionMeta
from loraplex.kernels.attention.kernel import paged_attention_triton
from loraplex.kernels.attention.plan import decode_plan, decode_split
from support.numerics import assert_near
from support.paged_case import PagedCase, Sequences

LONG: Sequences = ((1, 300), (1, 64), (1, 65), (1, 1), (1, 520))


def attend(case: PagedCase, meta: AttentionMeta, window: int = 0) -> torch.Tensor:
    return paged_attention_triton(case.q, case.k_cache, case.v_cache, meta, case.scale, window)


def as_captured(case: PagedCase, wide: int, lengths: list[int]) -> AttentionMeta:
    """A batch as a captured graph sees it: block tables of the longest sequence there may be, and host lengths that
    say nothing."""
    sequences, blocks = case.meta.block_tables.shape
    table = torch.full((sequences, wide), 2**30, dtype=torch.int32, device=case.q.device)
    table[:, :blocks] = case.meta.block_tables
    return replace(
        case.meta,
        block_tables=table,
        seq_lens=torch.tensor(lengths, dtype=torch.int32, device=case.q.device),
        kv_lens=(wide,) * sequences,
    )


@pytest.mark.parametrize(("dtype", "window"), [(torch.float32, 200), (torch.bfloat16, 0)], ids=str)
def test_long_sequences_are_split_and_summed(
    dtype: torch.dtype, window: int, device: torch.device
) -> None:
    case = PagedCase(LONG, 4, 2, 64, dtype, device)
    meta = case.meta.for_forward()
    assert_near("attended", attend(case, meta, window), case.expected(window=window))
    assert meta.plans is not None
    (plan,) = meta.plans.decode.values()
    assert int(plan.total) > len(LONG)
    assert not plan.arrived.any()


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([1], 1),
        ([345], 6),
        ([8192], 16),
        ([40000], 20),
        ([345] * 8, 8 * 6),
        ([8192, *[345] * 31], 4 + 31),
        ([0] * 64, 64),  # padding has an item each, which writes zeros
    ],
)
def test_how_batches_of_the_8b_model_are_split(
    lengths: list[int], parts: int, device: torch.device
) -> None:
    count = len(lengths)
    meta = AttentionMeta(
        query_starts=torch.arange(count + 1, dtype=torch.int32, device=device),
        seq_lens=torch.tensor(lengths, dtype=torch.int32, device=device),
        block_tables=torch.zeros((count, 4096), dtype=torch.int32, device=device),
        query_lens=(1,) * count,
        kv_lens=(0,) * count,
    )
    plan = decode_plan(meta, decode_split(count, 8), 8, 16, 0, 64)
    total = int(plan.total)
    assert total == parts <= plan.most_items
    keys = [0] * count
    for sequence, token, first, end, seen_from, part, of, _ in plan.items[:total].tolist():
        assert token == sequence
        assert seen_from == 0
        assert 0 <= part < of
        assert first == keys[sequence]  # parts follow one another without a gap
        keys[sequence] = end
    assert keys == lengths


@pytest.mark.parametrize(("dtype", "window"), [(torch.float32, 0), (torch.bfloat16, 100)], ids=str)
def test_neighbours_do_not_change_a_bit(
    dtype: torch.dtype, window: int, device: torch.device
) -> None:
    case = PagedCase(LONG, 4, 2, 32, dtype, device)
    first = attend(case, as_captured(case, 40, [300, 64, 65, 1, 520]), window)
    for lengths in ([300, 1, 0, 1, 7], [300, 60, 65, 0, 300]):
        again = attend(case, as_captured(case, 40, lengths), window)
        assert torch.equal(again[0], first[0])


@pytest.mark.parametrize("wide", [40, 4096])
def test_a_captured_batch_gives_what_an_eager_one_does(wide: int, device: torch.device) -> None:
    case = PagedCase(LONG, 6, 2, 64, torch.float32, device)
    meta = as_captured(case, wide, [300, 64, 65, 0, 520])
    out = attend(case, meta)
    expected = case.expected()
    live = [0, 1, 2, 4]
    assert_near("attended", out[live], expected[live])
    assert not out[3].any()


def test_layers_share_a_plan_until_the_next_forward_pass(device: torch.device) -> None:
    case = PagedCase(((1, 100), (1, 50)), 4, 2, 32, torch.float32, device)
    meta = case.meta.for_forward()
    first = attend(case, meta)
    assert torch.equal(attend(case, meta), first)
    assert meta.plans is not None
    assert len(meta.plans.decode) == 1
    attend(case, meta, window=30)
    assert len(meta.plans.decode) == 2
    case.meta.seq_lens[0] = 70  # the buffer of a graph, filled for the next step
    shorter = attend(case, meta.for_forward())
    assert not torch.equal(shorter[0], first[0])
    assert torch.equal(shorter[1], first[1])


@pytest.mark.gpu
def test_a_replayed_graph_follows_the_lengths_on_the_device(device: torch.device) -> None:
    case = PagedCase(((1, 345), (1, 3000), (1, 20)), 32, 8, 128, torch.bfloat16, device)
    meta = as_captured(case, 512, [1, 1, 1])
    attend(case, meta.for_forward())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        shared = meta.for_forward()
        outs = [attend(case, shared) for _ in range(3)]
    for lengths in ([345, 3000, 20], [345, 0, 20], [1, 3000, 1], [345, 3000, 20]):
        meta.seq_lens.copy_(torch.tensor(lengths))
        for out in outs:
            out.fill_(float("nan"))
        graph.replay()
        eager = attend(case, meta)
        assert all(torch.equal(out, eager) for out in outs)
    assert_near("attended", outs[2], case.expected())


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 32, 130])
def test_model_sized_batches(count: int, device: torch.device) -> None:
    sequences = ((1, 8192), *((1, 345),) * (count - 1))
    case = PagedCase(sequences, 32, 8, 128, torch.bfloat16, device)
    out = attend(case, case.meta)
    assert_near("attended", out, case.expected())
    assert torch.equal(out, attend(case, case.meta))
