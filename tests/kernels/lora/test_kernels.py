"""LoRA shrink, expand, apply and embedding: kernels and references against float64, one adapter at a time."""

from collections.abc import Callable

import pytest
import torch

from loraplex.kernels.lora import expand, shrink
from loraplex.kernels.lora.apply_reference import lora_apply_reference
from loraplex.kernels.lora.embed import (
    lora_embed_apply,
    lora_embed_shrink_reference,
    lora_embed_shrink_triton,
)
from loraplex.kernels.lora.expand import lora_expand_reference, lora_expand_triton
from loraplex.kernels.lora.shrink import lora_shrink_reference, lora_shrink_triton
from loraplex.kernels.lora.tables import LoRASegments, LoRATables
from support.lora_tables import (
    POPULARITIES,
    RandomAdapters,
    make_segments,
    make_spans,
    random_adapters,
)
from support.numerics import assert_near

Site = tuple[int, tuple[int, ...]]  # first module, widths of its slices
Spans = tuple[tuple[int, int, int], ...]
Apply = Callable[[torch.Tensor, torch.Tensor, LoRATables, LoRASegments, int, tuple[int, ...]], None]
Shrink = Callable[[torch.Tensor, LoRATables, LoRASegments, int], torch.Tensor]

# q, k, v with unequal widths, o with odd ones, gate and up; every width differs from every other.
MODULES = ((72, 80), (72, 24), (72, 40), (67, 131), (72, 136), (72, 136))
QKV, O_PROJ, GATE_UP = (0, (80, 24, 40)), (3, (131,)), (4, (136, 136))
# Ranks 1 to 256 side by side, no two modules of an adapter alike, modules left out, an adapter of nothing.
RANKS: tuple[dict[int, int], ...] = (
    {0: 8, 1: 8, 2: 8, 3: 16, 4: 8, 5: 8},
    {0: 1, 2: 33, 3: 1, 4: 2, 5: 64},
    {1: 256, 3: 128, 5: 17},
    {},
    {0: 16, 1: 16, 2: 16, 3: 5, 4: 100, 5: 3},
)


def triton_apply(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    widths: tuple[int, ...],
) -> None:
    s = lora_shrink_triton(x, tables, segments, first_module, len(widths))
    lora_expand_triton(y, s, tables, segments, first_module, widths)


def tiled_apply(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    widths: tuple[int, ...],
) -> None:
    """The kernels for prompts, which few tokens would not get otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrink, "MOST_DECODE_TOKENS", 0)
        patch.setattr(expand, "MOST_DECODE_TOKENS", 0)
        triton_apply(y, x, tables, segments, first_module, widths)


def reference_pair_apply(
    y: torch.Tensor,
    x: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    first_module: int,
    widths: tuple[int, ...],
) -> None:
    s = lora_shrink_reference(x, tables, segments, first_module, len(widths))
    lora_expand_reference(y, s, tables, segments, first_module, widths)


OPS = pytest.mark.parametrize(
    "op",
    [triton_apply, tiled_apply, reference_pair_apply, lora_apply_reference],
    ids=["kernel", "tiled", "reference", "apply"],
)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda d: str(d)[6:]
)


def check(
    op: Apply,
    adapters: RandomAdapters,
    site: Site,
    spans: Spans,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Run `op` on a strided y and compare every row; base rows must keep their bits."""
    first, widths = site
    x = torch.randn(tokens, MODULES[first][0]).to(device, dtype)
    fused = torch.randn(tokens, sum(widths) + 3).to(device, dtype)
    y = fused[:, : sum(widths)]
    before = fused.clone()
    segments = make_segments(adapters, spans, tokens)
    op(y, x, adapters.tables, segments, first, widths)
    expected = before[:, : sum(widths)].double()
    changed = torch.zeros(tokens, dtype=torch.bool)
    for slot, start, stop in spans:
        changed[start:stop] = True
        offset = 0
        for part, width in enumerate(widths):
            delta = adapters.delta(x[start:stop], slot, first + part)
            expected[start:stop, offset : offset + width] += delta
            offset += width
    assert_near("y", y, expected)
    assert torch.equal(fused[~changed], before[~changed])
    assert torch.equal(fused[:, sum(widths) :], before[:, sum(widths) :])


@OPS
@pytest.mark.parametrize(
    ("dtype", "site"),
    [(torch.float32, QKV), (torch.float16, O_PROJ), (torch.bfloat16, GATE_UP)],
    ids=["fp32-qkv", "fp16-o", "bf16-gate_up"],
)
def test_mixed_ranks(op: Apply, dtype: torch.dtype, site: Site, device: torch.device) -> None:
    adapters = random_adapters(MODULES, RANKS, dtype=dtype, device=device)
    spans = ((2, 0, 2), (0, 2, 6), (3, 6, 8), (1, 9, 10), (4, 10, 13))
    check(op, adapters, site, spans, 15, dtype, device)


@OPS
@pytest.mark.parametrize("popularity", POPULARITIES)
def test_popularity(op: Apply, popularity: str, device: torch.device) -> None:
    adapters, tokens = random_adapters(MODULES, RANKS, device=device), 11
    spans = make_spans(popularity, tokens, len(RANKS), base_tokens=tokens // 4)
    check(op, adapters, QKV, spans, tokens, torch.float32, device)


@OPS
@pytest.mark.parametrize("rank", [1, 15, 17, 100, 512])
def test_every_rank(op: Apply, rank: int, device: torch.device) -> None:
    adapters = random_adapters(MODULES, [{0: rank, 2: rank}, {1: rank}], device=device)
    check(op, adapters, QKV, ((1, 1, 3), (0, 3, 5)), 6, torch.float32, device)


@OPS
@pytest.mark.parametrize("scattered", [True, False], ids=["scattered", "adjacent"])
@pytest.mark.parametrize("counts", [(4, 4, 4), (40, 2, 9)], ids=str)
def test_row_layouts_and_token_counts(
    op: Apply, scattered: bool, counts: tuple[int, ...], device: torch.device
) -> None:
    """Adjacent rows are read through views, even counts and uneven ones batched differently on a CPU; 53 tokens enter
    a second tile."""
    if op is triton_apply and counts[0] == 40:
        counts = (9, 2, 5)  # it has a program per token, and no tiles
    ranks = [{0: 8, 1: 8, 2: 8, 4: 8, 5: 8}, {0: 4, 1: 4, 2: 4}, {0: 8, 1: 8, 2: 8, 5: 16}]
    adapters = random_adapters(MODULES, ranks, device=device, scattered=scattered)
    spans, at = [], 0
    for slot, count in enumerate(counts):
        spans.append((slot, at, at + count))
        at += count
    for site in (QKV, GATE_UP):
        check(op, adapters, site, tuple(spans), at + 2, torch.float32, device)


@OPS
def test_no_adapter_has_the_projection(op: Apply, device: torch.device) -> None:
    adapters = random_adapters(MODULES, [{3: 8}, {3: 4}], device=device)
    check(op, adapters, QKV, ((0, 0, 2), (1, 2, 4)), 5, torch.float32, device)


def test_wide_projection_in_every_regime(device: torch.device) -> None:
    """2049 is odd and spans several splits; 49 tokens enter the next launch constants."""
    modules = ((2049, 300),)
    adapters = random_adapters(modules, [{0: 20}], device=device)
    for tokens in (2, 49):
        x = torch.randn(tokens, 2049, device=device)
        y = torch.zeros(tokens, 300, device=device)
        spans = ((0, tokens - 2, tokens),)
        triton_apply(y, x, adapters.tables, make_segments(adapters, spans, tokens), 0, (300,))
        assert_near("y", y[-2:], adapters.delta(x[-2:], 0, 0))
        assert not y[:-2].any()


@pytest.mark.parametrize("scattered", [True, False], ids=["odd-offsets", "aligned"])
def test_offsets_decide_how_rows_are_read(scattered: bool, device: torch.device) -> None:
    """Widths that allow 16-byte loads, with rows that lie where these are allowed and where they are not."""
    dtype = torch.bfloat16
    ranks = [{0: 16, 1: 8}, {0: 8, 1: 24}]
    adapters = random_adapters(
        ((512, 256), (512, 128)), ranks, dtype=dtype, device=device, scattered=scattered
    )
    x, y = torch.randn(8, 512).to(device, dtype), torch.zeros(8, 384, dtype=dtype, device=device)
    spans = ((0, 0, 5), (1, 5, 8))
    triton_apply(y, x, adapters.tables, make_segments(adapters, spans, 8), 0, (256, 128))
    for slot, start, stop in spans:
        delta = torch.cat([adapters.delta(x[start:stop], slot, part) for part in (0, 1)], dim=1)
        assert_near("y", y[start:stop], delta)


# The interpreter computes with NumPy, which remarks on every NaN.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@OPS
@DTYPES
def test_a_broken_adapter_breaks_only_its_own_tokens(
    op: Apply, dtype: torch.dtype, device: torch.device
) -> None:
    ranks = [{0: 8, 1: 8, 2: 8}, {0: 24, 1: 24, 2: 24}, {0: 8, 1: 8, 2: 8}]
    adapters = random_adapters(MODULES, ranks, dtype=dtype, device=device)
    segments = make_segments(adapters, ((0, 0, 2), (1, 2, 5), (2, 5, 7)), 8)
    x = torch.randn(8, 72).to(device, dtype)
    start = torch.randn(8, 144).to(device, dtype)
    clean, dirty = start.clone(), start.clone()
    op(clean, x, adapters.tables, segments, *QKV)
    tables = adapters.tables
    for slot in range(3):
        tables.forget(slot)
    first = int(tables.index[1, 0, 0])
    tables.arena[tables.a_rows[first]] = float("nan")
    tables.arena[tables.b_rows[first + 1]] = float("inf")
    op(dirty, x, tables, segments, *QKV)
    others = torch.tensor([0, 1, 5, 6, 7])
    assert torch.equal(dirty[others], clean[others])
    assert dirty[2:5, :80].isnan().any(dim=1).all()


@OPS
def test_rows_replaced_in_a_slot_are_used_at_once(op: Apply, device: torch.device) -> None:
    """What a CPU keeps of a slot between steps ends with `forget`."""
    ranks = [{0: 8, 1: 8, 2: 8}, {0: 8, 1: 8, 2: 8}]
    adapters = random_adapters(MODULES, ranks, device=device, scattered=False)
    tables, segments = adapters.tables, make_segments(adapters, ((0, 0, 2), (1, 2, 4)), 4)
    x = torch.randn(4, 72, device=device)
    first, second = torch.zeros(2, 4, 144, device=device)
    op(first, x, tables, segments, *QKV)
    tables.arena.mul_(2)
    tables.forget(0)
    tables.forget(1)
    op(second, x, tables, segments, *QKV)
    assert_near("y", second, 4 * first.double())


def test_shrink_writes_only_what_is_asked_for(device: torch.device) -> None:
    adapters = random_adapters(MODULES, RANKS, device=device)
    spans = ((1, 2, 4),)
    x = torch.randn(6, 72, device=device)
    s = lora_shrink_triton(x, adapters.tables, make_segments(adapters, spans, 6), 0, 3)
    written = ~s.isnan().any(dim=0)
    expected = torch.zeros_like(written)
    for part in range(3):
        expected[part, 2:4, : RANKS[1].get(part, 0)] = True
    assert torch.equal(written, expected)
    reference = lora_shrink_reference(x, adapters.tables, make_segments(adapters, spans, 6), 0, 3)
    assert_near("s", s.sum(dim=0)[expected], reference.sum(dim=0)[expected])


@pytest.mark.parametrize(
    "shrink", [lora_embed_shrink_triton, lora_embed_shrink_reference], ids=["kernel", "reference"]
)
@DTYPES
def test_embedding(shrink: Shrink, dtype: torch.dtype, device: torch.device) -> None:
    adapters = random_adapters(((101, 48),), [{0: 8}, {}, {0: 35}], dtype=dtype, device=device)
    spans = ((2, 0, 18), (1, 18, 20), (0, 21, 24))
    ids = torch.randint(0, 101, (25,), device=device)
    y = torch.randn(25, 48).to(device, dtype)
    before, expected = y.clone(), y.double()
    segments = make_segments(adapters, spans, 25)
    expand = lora_expand_triton if shrink is lora_embed_shrink_triton else lora_expand_reference
    expand(y, shrink(ids, adapters.tables, segments, 0), adapters.tables, segments, 0, (48,))
    one_hot = torch.nn.functional.one_hot(ids, 101)
    for slot, start, stop in (spans[0], spans[2]):
        expected[start:stop] += adapters.delta(one_hot[start:stop], slot, 0)
    assert_near("y", y, expected)
    assert torch.equal(y[[18, 19, 20, 24]], before[[18, 19, 20, 24]])
    again = before.clone()
    lora_embed_apply(again, ids, adapters.tables, segments, 0)
    assert_near("y", again, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("rank", [8, 16, 64, 256])
@pytest.mark.parametrize("tokens", [1, 7, 32, 128, 256, 1000])
@pytest.mark.parametrize(
    ("wide", "widths"), [(4096, (4096, 1024, 1024)), (4096, (14336, 14336)), (14336, (4096,))]
)
def test_model_sized(
    wide: int, widths: tuple[int, ...], tokens: int, rank: int, device: torch.device
) -> None:
    modules = [(wide, width) for width in widths]
    ranks = [dict.fromkeys(range(len(widths)), r) for r in (rank, 8, 2 * rank, 1)]
    dtype = torch.bfloat16
    adapters = random_adapters(modules, ranks, dtype=dtype, device=device, scattered=rank == 8)
    spans = make_spans("skewed", tokens, len(ranks), base_tokens=tokens // 8)
    x = torch.randn(tokens, wide, device=device).to(dtype)
    y = torch.randn(tokens, sum(widths), device=device).to(dtype)
    expected = y.double()
    triton_apply(y, x, adapters.tables, make_segments(adapters, spans, tokens), 0, widths)
    for slot, start, stop in spans:
        delta = [adapters.delta(x[start:stop], slot, part) for part in range(len(widths))]
        expected[start:stop] += torch.cat(delta, dim=1)
    assert_near("y", y, expected)
