"""Prefill attention: chunks read from their blocks or from gathered rows, by their own lengths alone."""

import pytest
import torch

from loraplex.kernels.attention import AttentionMeta
from loraplex.kernels.attention.kernel import paged_attention_triton
from loraplex.kernels.attention.tiles import prefill_plan
from support.numerics import assert_near
from support.paged_case import PagedCase, Sequences

# Long and short chunks beside decoding sequences; the third has too many keys per query to be gathered.
CHUNKS: Sequences = ((1, 40), (70, 133), (65, 65), (9, 200), (1, 3), (20, 20))


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 1, 64), (3, 1, 128), (2, 2, 256)])
@pytest.mark.parametrize(
    ("dtype", "soft_cap"), [(torch.float16, 5.0), (torch.bfloat16, 0.0)], ids=str
)
def test_long_chunks_beside_short_ones_and_decoding_sequences(
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    soft_cap: float,
    device: torch.device,
) -> None:
    case = PagedCase(CHUNKS, heads, kv_heads, head_dim, dtype, device)
    out = case.run(paged_attention_triton, soft_cap=soft_cap)
    assert_near("attended", out, case.expected(soft_cap=soft_cap))


def test_a_window_is_kept_in_long_chunks(device: torch.device) -> None:
    case = PagedCase(CHUNKS, 4, 2, 64, torch.bfloat16, device)
    out = case.run(paged_attention_triton, window=50)
    assert_near("attended", out, case.expected(window=50))


def test_a_broken_neighbour_breaks_only_itself(device: torch.device) -> None:
    case = PagedCase(((64, 80), (64, 64), (1, 30)), 2, 1, 64, torch.bfloat16, device)
    clean = case.run(paged_attention_triton)
    case.k_cache[case.meta.block_tables[1, 3:4].long()] = float("nan")
    case.v_cache[case.meta.block_tables[1, :4].long()] = float("nan")
    dirty = case.run(paged_attention_triton)
    assert torch.equal(dirty[:64], clean[:64])
    assert torch.equal(dirty[128:], clean[128:])
    assert dirty[64:128].isnan().all()


def plan_of(sequences: Sequences, *, gather: bool = True) -> dict[int, str]:
    """Which kind each sequence is."""
    lengths = [length for _, length in sequences]
    meta = AttentionMeta(
        query_starts=torch.zeros(0, dtype=torch.int32),
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        block_tables=torch.zeros((len(sequences), 1), dtype=torch.int32),
        query_lens=tuple(count for count, _ in sequences),
        kv_lens=tuple(lengths),
    )
    plan = prefill_plan(
        meta, gather=gather, direct_tokens=16, gathered_tokens=16, keys=64, block_size=16
    )
    kinds: dict[int, str] = {}
    for kind, tiles in (("direct", plan.direct), ("gathered", plan.gathered)):
        for sequence, _, _, _ in [] if tiles is None else tiles.tolist():
            assert kinds.setdefault(sequence, kind) == kind
    return kinds


def test_the_kind_of_a_chunk_depends_on_its_own_lengths_alone() -> None:
    chunks: Sequences = ((64, 64), (63, 63), (100, 1600), (100, 1601), (1, 9), (2048, 8192))
    kinds = plan_of(chunks)
    assert kinds == {0: "gathered", 1: "direct", 2: "gathered", 3: "direct", 5: "gathered"}
    for number, chunk in enumerate(chunks):
        assert plan_of((chunk,)).get(0) == kinds.get(number)
    assert set(plan_of(chunks, gather=False).values()) == {"direct"}


def test_tiles_with_the_most_keys_come_first() -> None:
    meta = PagedCase(((40, 40), (30, 90)), 1, 1, 16, torch.float32, torch.device("cpu")).meta
    plan = prefill_plan(
        meta, gather=False, direct_tokens=16, gathered_tokens=16, keys=64, block_size=16
    )
    assert plan.direct is not None
    seen = [tile[3] for tile in plan.direct.tolist()]
    assert seen == sorted(seen, reverse=True) == [90, 76, 40, 32, 16]
    assert not plan.decodes


@pytest.mark.gpu
def test_model_sized_chunks(device: torch.device) -> None:
    sequences = ((2048, 4096), *((1, 345),) * 7, (256, 256), (16, 1000))
    case = PagedCase(sequences, 32, 8, 128, torch.bfloat16, device)
    out = case.run(paged_attention_triton)
    assert_near("attended", out, case.expected())
