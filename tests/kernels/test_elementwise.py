"""RMSNorm and SiLU·mul: kernel and reference against float64, and against each other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from loraplex.kernels.activation import silu_mul_reference, silu_mul_triton
from loraplex.kernels.norm import (
    add_rms_norm_reference,
    add_rms_norm_triton,
    rms_norm_reference,
    rms_norm_triton,
)
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


@pytest.mark.parametrize(
    "op",
    [
        lambda x: rms_norm_triton(x, x.new_ones(8), 1e-6),
        lambda x: silu_mul_triton(x),
    ],
)
def test_no_tokens(op: Op, device: torch.device) -> None:
    assert op(torch.zeros(0, 8, device=device)).shape[0] == 0
