"""The kernel between the qkv projection and attention: against its parts in float64, with and without adapters."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from loraplex.kernels import activation
from loraplex.kernels.activation import silu_mul_triton
from loraplex.kernels.lora import shrink
from loraplex.kernels.lora.apply import LoRADelta
from loraplex.kernels.lora.shrink import lora_shrink_triton
from loraplex.kernels.lora.tuning import QkvLaunch, decode_constants
from loraplex.kernels.qkv import to_cache
from loraplex.kernels.qkv.to_cache import (
    HeadNorm,
    qkv_to_cache_reference,
    qkv_to_cache_triton,
)
from support.lora_tables import make_segments, random_adapters
from support.numerics import assert_near


@pytest.fixture(params=["head", "heads", "prefill"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel, whatever the number of tokens: a program for one head, for two, for a tile of tokens."""
    regime = decode_constants(1)._replace(qkv=QkvLaunch(2 if request.param == "heads" else 1, 1))
    monkeypatch.setattr(to_cache, "decode_constants", lambda tokens: regime)
    for module in (activation, shrink, to_cache):
        monkeypatch.setattr(module, "MOST_DECODE_TOKENS", 0 if request.param == "prefill" else 512)


ALL_PATHS = pytest.mark.usefixtures("_path")
# Adapters are added by a program for one head or by one for a tile; 37 tokens enter the next tile of every kernel.
WITH_ADAPTERS = pytest.mark.parametrize(
    ("_path", "tokens"), [("head", 8), ("prefill", 37)], indirect=["_path"]
)
# query heads, KV heads, head dim, rotary elements; every dtype once, every shape once.
CASES = pytest.mark.parametrize(
    ("shape", "dtype", "norm"),
    [
        ((2, 1, 64, 64), torch.bfloat16, False),
        ((3, 1, 80, 32), torch.float32, True),
        ((1, 1, 96, 96), torch.float16, True),
        ((3, 1, 24, 24), torch.float32, False),
    ],
    ids=["gqa-bf16", "partial-normed", "mha-fp16-normed", "narrow"],
)
Shape = tuple[int, int, int, int]


class Case:
    """Inputs of one call; the cache holds NaN wherever nothing was written."""

    def __init__(
        self, shape: Shape, tokens: int, dtype: torch.dtype, device: torch.device, *, norm: bool
    ) -> None:
        self.q_heads, self.kv_heads, self.head_dim, rotary = shape
        heads = self.q_heads + 2 * self.kv_heads
        self.qkv = torch.randn(tokens, heads * self.head_dim).to(device, dtype)
        # A layer of a cache that all layers share.
        cache = torch.full((5, 3, 2, 16, self.kv_heads, self.head_dim), float("nan"))
        self.cache = cache.to(device, dtype)
        self.k_cache, self.v_cache = self.cache[:, 1, 0], self.cache[:, 1, 1]
        angles = 6 * torch.rand(50, rotary // 2, device=device)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.positions = torch.randint(0, 50, (tokens,), device=device)
        self.slots = torch.randperm(80)[:tokens].to(device)
        self.slots[tokens // 2] = -1
        self.norm = None
        if norm:
            q, k = (1 + torch.rand(2, self.head_dim)).to(device, dtype)
            self.norm = HeadNorm(q, k, 1e-5)

    def run(
        self, op: Callable[..., torch.Tensor], delta: LoRADelta | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(queries, cache) after the call on copies."""
        qkv, cache = self.qkv.clone(), self.cache.clone()
        extra = (self.norm,) if delta is None else (self.norm, delta)
        q = op(
            qkv,
            cache[:, 1, 0],
            cache[:, 1, 1],
            self.cos,
            self.sin,
            self.positions,
            self.slots,
            *extra,
        )
        assert q.data_ptr() == qkv.data_ptr()
        return q, cache

    def expected(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same in float64 from qkv [tokens, width] float64."""
        heads = qkv.view(len(qkv), -1, self.head_dim)
        q, k, v = heads.split((self.q_heads, self.kv_heads, self.kv_heads), dim=1)
        if self.norm is not None:
            q, k = self._normed(q, self.norm.q), self._normed(k, self.norm.k)
        q, k = self._rotated(q), self._rotated(k)
        cache = self.cache.double()
        for token, slot in enumerate(self.slots.tolist()):
            if slot >= 0:
                cache[slot // 16, 1, 0, slot % 16] = k[token]
                cache[slot // 16, 1, 1, slot % 16] = v[token]
        return q, cache

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double()

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        """x cos + rotate_half(x) sin over the first R elements."""
        half = self.cos.shape[1]
        cos, sin = (
            torch.cat([t, t], -1)[self.positions][:, None].double() for t in (self.cos, self.sin)
        )
        turned, rest = x[..., : 2 * half], x[..., 2 * half :]
        halves = torch.cat([-turned[..., half:], turned[..., :half]], -1)
        return torch.cat([turned * cos + halves * sin, rest], -1)


def check(case: Case, got: tuple[torch.Tensor, torch.Tensor], qkv: torch.Tensor) -> None:
    q, cache = case.expected(qkv)
    assert_near("q", got[0], q)
    assert torch.equal(got[1].isnan(), cache.isnan())
    assert_near("cache", got[1][~cache.isnan()], cache[~cache.isnan()])


@ALL_PATHS
@CASES
def test_kernel(shape: Shape, dtype: torch.dtype, norm: bool, device: torch.device) -> None:
    case = Case(shape, 7, dtype, device, norm=norm)
    check(case, case.run(qkv_to_cache_triton), case.qkv.double())


@CASES
def test_reference(shape: Shape, dtype: torch.dtype, norm: bool, device: torch.device) -> None:
    case = Case(shape, 7, dtype, device, norm=norm)
    check(case, case.run(qkv_to_cache_reference), case.qkv.double())


@ALL_PATHS
@WITH_ADAPTERS
@CASES
def test_with_adapters(
    tokens: int, shape: Shape, dtype: torch.dtype, norm: bool, device: torch.device
) -> None:
    """The middle adapter leaves k alone, the last tokens have none."""
    case = Case(shape, tokens, dtype, device, norm=norm)
    dim, wide = case.head_dim, 40
    widths = (case.q_heads * dim, case.kv_heads * dim, case.kv_heads * dim)
    ranks = [{0: 8, 1: 8, 2: 8}, {0: 3, 2: 33}, {0: 16, 1: 20, 2: 1}]
    adapters = random_adapters([(wide, w) for w in widths], ranks, dtype=dtype, device=device)
    spans = ((2, 0, 1), (0, 1, tokens - 5), (1, tokens - 5, tokens - 2))
    # Two programs share the runs of a tile.
    segments = replace(make_segments(adapters, spans, tokens), ways=2)
    x = torch.randn(tokens, wide).to(device, dtype)
    s = lora_shrink_triton(x, adapters.tables, segments, 0, 3)
    got = case.run(qkv_to_cache_triton, LoRADelta(s, adapters.tables, segments, 0))
    qkv = case.qkv.double()
    for slot, start, stop in spans:
        offset = 0
        for part, width in enumerate(widths):
            qkv[start:stop, offset : offset + width] += adapters.delta(x[start:stop], slot, part)
            offset += width
    check(case, got, qkv)
    base = case.run(qkv_to_cache_triton)
    assert torch.equal(got[0][-2:], base[0][-2:])  # tokens of the base model keep every bit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_heads_per_program_change_no_bit(
    dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps with adapters take one head per program, steps without several: base rows must not notice."""
    case = Case((8, 2, 64, 64), 5, dtype, device, norm=False)
    results = []
    for heads in (1, 4):
        regime = decode_constants(1)._replace(qkv=QkvLaunch(heads, heads))
        monkeypatch.setattr(to_cache, "decode_constants", lambda tokens, regime=regime: regime)
        results.append(case.run(qkv_to_cache_triton))
    (q, cache), (other_q, other_cache) = results
    assert torch.equal(q, other_q)
    assert torch.equal(cache.nan_to_num(7.0), other_cache.nan_to_num(7.0))


@ALL_PATHS
@WITH_ADAPTERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_silu_mul_with_adapters(tokens: int, dtype: torch.dtype, device: torch.device) -> None:
    size, wide = 200, 40
    ranks = [{0: 8, 1: 8}, {1: 40}, {0: 16, 1: 3}]
    adapters = random_adapters([(wide, size)] * 2, ranks, dtype=dtype, device=device)
    spans = ((1, 0, 2), (2, 2, tokens - 4), (0, tokens - 4, tokens - 2))
    # Two programs share the runs of a tile.
    segments = replace(make_segments(adapters, spans, tokens), ways=2)
    x = torch.randn(tokens, wide).to(device, dtype)
    y = torch.randn(tokens, 2 * size).to(device, dtype)
    before = y.clone()
    s = lora_shrink_triton(x, adapters.tables, segments, 0, 2)
    got = silu_mul_triton(y, LoRADelta(s, adapters.tables, segments, 0))
    wanted = y.double()
    for slot, start, stop in spans:
        for part in (0, 1):
            delta = adapters.delta(x[start:stop], slot, part)
            wanted[start:stop, part * size : (part + 1) * size] += delta
    gate, up = wanted.chunk(2, -1)
    assert_near("activated", got, gate * torch.sigmoid(gate) * up)
    assert torch.equal(got[-2:], silu_mul_triton(y)[-2:])
    assert torch.equal(y, before)
