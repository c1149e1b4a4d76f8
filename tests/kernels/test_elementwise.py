"""RMSNorm, rotary embedding, SiLU·mul and KV write: kernel and reference against float64, and against each other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from loraplex.kernels.activation import silu_mul_reference, silu_mul_triton
from loraplex.kernels.kv_write import kv_write_reference, kv_write_triton
from loraplex.kernels.norm import (
    add_rms_norm_reference,
    add_rms_norm_triton,
    rms_norm_reference,
    rms_norm_triton,
)
from loraplex.kernels.rope import apply_rope_reference, apply_rope_triton
from support.numerics import assert_near

Op = Callable[..., Any]  # the operations of this file have nothing in common
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])


def both(kernel: Op, reference: Op) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("op", [kernel, reference], ids=["kernel", "reference"])


@dtypes
@both(rms_norm_triton, rms_norm_reference)
@pytest.mark.parametrize("shape", [(3, 67), (1, 256), (5, 2049), (7, 3, 80)], ids=str)
def test_rms_norm(op: Op, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    x = (3 * torch.randn(shape)).to(device, dtype)
    weight = torch.rand(shape[-1]).to(device, dtype)
    wide = x.double()
    expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double()
    assert_near("normed", op(x, weight, 1e-5), expected)


@both(rms_norm_triton, rms_norm_reference)
def test_rms_norm_of_heads_inside_a_fused_row(op: Op, device: torch.device) -> None:
    fused = torch.randn(5, 9 * 48, device=device)
    heads = fused[:, 48 : 7 * 48].view(5, 6, 48)
    weight = torch.rand(48, device=device)
    expected = rms_norm_reference(heads.contiguous(), weight, 1e-6)
    assert_near("normed", op(heads, weight, 1e-6), expected)


@dtypes
@both(add_rms_norm_triton, add_rms_norm_reference)
@pytest.mark.parametrize("shape", [(3, 67), (9, 320)], ids=str)
def test_add_rms_norm(
    op: Op, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device
) -> None:
    x, residual = torch.randn(2, *shape).to(device, dtype)
    weight = torch.rand(shape[-1]).to(device, dtype)
    total = x + residual
    normed, new_residual = op(x, residual.clone(), weight, 1e-6)
    # The sum is rounded before it is normalised, as separate layers would do.
    assert_near("residual", new_residual, total)
    assert_near("normed", normed, rms_norm_reference(new_residual.float(), weight.float(), 1e-6))


@dtypes
@both(silu_mul_triton, silu_mul_reference)
@pytest.mark.parametrize("shape", [(1, 2), (3, 134), (2, 2100)], ids=str)
def test_silu_mul(op: Op, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    x = (4 * torch.randn(shape)).to(device, dtype)
    gate, up = x.double().chunk(2, -1)
    assert_near("activated", op(x), gate * torch.sigmoid(gate) * up)


@both(silu_mul_triton, silu_mul_reference)
def test_silu_mul_of_extreme_values(op: Op, device: torch.device) -> None:
    x = torch.tensor([[-1e4, 1e4, 0.0, torch.nan, 1.0, 1.0, 1.0, 1.0]], device=device)
    low, high, zero, broken = op(x)[0].tolist()
    assert abs(low) < 1e-20
    assert (high, zero) == (1e4, 0.0)
    assert broken != broken


def rotate_as_hugging_face(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """x [tokens, heads, D]: x cos + rotate_half(x) sin over the first R elements, float64."""
    half = cos.shape[1]
    cos, sin = (torch.cat([t, t], -1)[positions][:, None].double() for t in (cos, sin))
    turned, rest = x[..., : 2 * half].double(), x[..., 2 * half :].double()
    halves = torch.cat([-turned[..., half:], turned[..., :half]], -1)
    return torch.cat([turned * cos + halves * sin, rest], -1)


@dtypes
@both(apply_rope_triton, apply_rope_reference)
@pytest.mark.parametrize(
    ("q_heads", "kv_heads", "head_dim", "rotary"),
    [(4, 2, 64, 64), (3, 1, 80, 32), (5, 5, 96, 96)],
)
@pytest.mark.parametrize("gap", [0, 1], ids=["k-follows-q", "k-apart"])
def test_rope_in_place_inside_a_fused_row(
    op: Op,
    dtype: torch.dtype,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    rotary: int,
    gap: int,
    device: torch.device,
) -> None:
    tokens, total = 7, q_heads + 2 * kv_heads + gap
    fused = torch.randn(tokens, total, head_dim).to(device, dtype)
    before = fused.clone()
    angles = torch.randn(50, rotary // 2, device=device)
    cos, sin = angles.cos(), angles.sin()
    positions = torch.randint(0, 50, (tokens,), device=device)
    k_at = q_heads + gap
    op(fused[:, :q_heads], fused[:, k_at : k_at + kv_heads], cos, sin, positions)
    expected = rotate_as_hugging_face(before, cos, sin, positions)
    assert_near("q", fused[:, :q_heads], expected[:, :q_heads])
    assert_near("k", fused[:, k_at : k_at + kv_heads], expected[:, k_at : k_at + kv_heads])
    assert torch.equal(fused[:, k_at + kv_heads :], before[:, k_at + kv_heads :])
    assert torch.equal(fused[:, q_heads:k_at], before[:, q_heads:k_at])


@dtypes
@both(kv_write_triton, kv_write_reference)
@pytest.mark.parametrize("layers", [1, 3], ids=["dense", "layer-of-a-shared-cache"])
@pytest.mark.parametrize(("kv_heads", "head_dim"), [(2, 64), (3, 80)])
def test_kv_write(
    op: Op, dtype: torch.dtype, layers: int, kv_heads: int, head_dim: int, device: torch.device
) -> None:
    cache = torch.full((5, layers, 2, 16, kv_heads, head_dim), float("nan")).to(device, dtype)
    fused = torch.randn(4, 3 * kv_heads, head_dim).to(device, dtype)
    k, v = fused[:, kv_heads : 2 * kv_heads], fused[:, 2 * kv_heads :]
    slots = torch.tensor([3 * 16 + 15, -1, 0, 79], device=device)
    op(k, v, cache[:, layers - 1, 0], cache[:, layers - 1, 1], slots)
    expected = torch.full_like(cache, float("nan"))
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            expected[slot // 16, layers - 1, 0, slot % 16] = k[token]
            expected[slot // 16, layers - 1, 1, slot % 16] = v[token]
    assert torch.equal(cache.nan_to_num(-7.0), expected.nan_to_num(-7.0))


@pytest.mark.parametrize(
    "op",
    [
        lambda x: rms_norm_triton(x, x.new_ones(8), 1e-6),
        lambda x: silu_mul_triton(x),
    ],
)
def test_no_tokens(op: Op, device: torch.device) -> None:
    assert op(torch.zeros(0, 8, device=device)).shape[0] == 0
