"""Projections of few tokens: the kernel against float64 on a GPU, and everywhere which shapes it takes."""

import pytest
import torch

from loraplex.kernels.linear import linear
from loraplex.kernels.linear.projection import linear_reference
from loraplex.kernels.linear.tile import linear_tile
from loraplex.kernels.linear.tuning import (
    SHARED_MEMORY,
    Launch,
    launch_constants,
    shared_bytes,
)
from support.numerics import assert_near

# An 8B Llama's qkv, o, gate_up, down and head as (out_features, in_features); then shapes no table holds.
KNOWN = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096))
UNKNOWN = ((4099, 4096), (2048, 2048), (5120, 5120), (27648, 5120), (152064, 3584), (8192, 28672))
TOKENS = (1, 8, 16, 17, 32, 33, 64, 128)

needs_gpu = pytest.mark.gpu


def operands(
    tokens: int, shape: tuple[int, int], dtype: torch.dtype, bias: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    x = torch.randn(tokens, shape[1], device="cuda", dtype=dtype)
    weight = torch.randn(shape, device="cuda", dtype=dtype) * 0.02
    b = torch.randn(shape[0], device="cuda", dtype=dtype) if bias else None
    # The kernel reads weights before the kernel that precedes it has ended.
    torch.cuda.synchronize()
    return x, weight, b


@pytest.mark.parametrize("shape", [*KNOWN, *UNKNOWN])
@pytest.mark.parametrize("tokens", TOKENS)
def test_every_launch_fits_in_shared_memory(tokens: int, shape: tuple[int, int]) -> None:
    launch = launch_constants(tokens, *shape)
    if launch is not None:
        assert shared_bytes(launch, tokens) <= SHARED_MEMORY
        assert launch.stages >= 2


def test_small_and_many_token_shapes_are_left_to_torch() -> None:
    assert launch_constants(1024, 4096, 4096) is None
    assert launch_constants(1, 48, 64) is None


def test_on_a_cpu_it_is_torchs_linear() -> None:
    x, weight, bias = torch.randn(3, 7), torch.randn(5, 7), torch.randn(5)
    expected = x.double() @ weight.double().T
    assert_near("y", linear(x, weight), expected)
    assert_near("y", linear(x, weight, bias), expected + bias.double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [1, 5, 17])
@pytest.mark.parametrize("shape", [(37, 72), (64, 64), (96, 200)])
def test_tile_kernel_at_odd_shapes(
    device: torch.device, shape: tuple[int, int], tokens: int, dtype: torch.dtype
) -> None:
    x = torch.randn(tokens, shape[1]).to(device, dtype)
    weight, bias = torch.randn(shape).to(device, dtype), torch.randn(shape[0]).to(device, dtype)
    launch = Launch(False, 32, 64, 3, 4)
    expected = x.double() @ weight.double().T
    assert_near("y", linear_tile(x, weight, None, launch), expected)
    assert_near("y", linear_tile(x, weight, bias, launch), expected + bias.double())
    assert_near("reference", linear_reference(x, weight, bias), expected + bias.double())


def test_tile_kernel_keeps_nan_in_its_row(device: torch.device) -> None:
    x, weight = torch.randn(5, 72).to(device).half(), torch.randn(40, 72).to(device).half()
    launch = Launch(False, 32, 64, 3, 4)
    alone = linear_tile(x, weight, None, launch)
    x[[0, 1, 3, 4]] = float("nan")
    assert torch.equal(linear_tile(x, weight, None, launch)[2], alone[2])


@needs_gpu
@pytest.mark.parametrize(
    ("dtype", "bias"), [(torch.bfloat16, False), (torch.float16, True), (torch.float32, True)]
)
@pytest.mark.parametrize("shape", [(4099, 4104), (6144, 4096), (4096, 14336), (40, 56)])
@pytest.mark.parametrize("tokens", [1, 5, 16, 31, 64, 100, 300])
def test_matches_float64(
    tokens: int, shape: tuple[int, int], dtype: torch.dtype, bias: bool
) -> None:
    x, weight, b = operands(tokens, shape, dtype, bias)
    expected = x.double() @ weight.double().T + (0 if b is None else b.double())
    assert_near("y", linear(x, weight, b), expected)


@needs_gpu
def test_rows_of_any_alignment_and_stride() -> None:
    x, weight, _ = operands(4, (4096, 4096), torch.bfloat16, False)
    for view in (x[:, 1:4090], x[::2], x[:, 8:]):
        narrow = weight[:, : view.shape[1]]
        assert_near("y", linear(view, narrow), view.double() @ narrow.double().T)


@needs_gpu
@pytest.mark.parametrize("tokens", [4, 16, 32, 64, 128])
def test_a_row_does_not_depend_on_its_neighbours(tokens: int) -> None:
    for shape in KNOWN:
        x, weight, _ = operands(tokens, shape, torch.bfloat16, False)
        alone = linear(x, weight)
        others = torch.full_like(x, float("nan"))
        others[2] = x[2]
        torch.cuda.synchronize()
        assert torch.equal(linear(others, weight)[2], alone[2])


@needs_gpu
def test_replays_of_a_graph_are_identical_and_follow_their_input() -> None:
    x, first, _ = operands(8, (4096, 4096), torch.bfloat16, False)
    second = torch.randn_like(first) * 0.02
    torch.cuda.synchronize()
    linear(linear(x, first), second)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Each reads what the one before it has just written, while both are already running.
        y = x
        for weight in (first, second, first, second):
            y = linear(y, weight)
    for _ in range(3):
        x.normal_()
        graph.replay()
        expected = x
        for weight in (first, second, first, second):
            torch.cuda.synchronize()
            expected = linear(expected, weight)
        torch.cuda.synchronize()
        assert torch.equal(y, expected)
