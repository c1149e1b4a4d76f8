"""The choice of an attention backend: rivals that do not fit, fail, err or let neighbours matter are passed over."""

import time

import pytest
import torch

from loraplex.kernels.attention import AttentionMeta
from loraplex.kernels.attention.backends import (
    AttentionOp,
    AttentionShape,
    Backend,
    choose_backend,
    installed,
)
from loraplex.kernels.attention.reference import paged_attention_reference

SHAPE = AttentionShape(2, 1, 16, 16, torch.float32, frozenset({0, 50}), 5.0)


def slow(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    time.sleep(0.03)
    return paged_attention_reference(q, k_cache, v_cache, meta, scale, window, soft_cap)


def deaf_to_windows(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    return paged_attention_reference(q, k_cache, v_cache, meta, scale, 0, soft_cap)


def swayed_by_neighbours(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    out = paged_attention_reference(q, k_cache, v_cache, meta, scale, window, soft_cap)
    return out * (1 + 1e-6 * (sum(meta.kv_lens) % 2 + 1 if min(meta.kv_lens) == 1 else 0))


def failing(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    raise ValueError("blocks of 16 tokens are too small")


YARDSTICK = Backend("slow", slow, lambda _: True)
QUICK = Backend("quick", paged_attention_reference, lambda shape: shape.soft_cap > 0)


def chosen(*rivals: Backend, shape: AttentionShape = SHAPE) -> str:
    return choose_backend(shape, torch.device("cpu"), (YARDSTICK, *rivals)).name


def test_the_fastest_that_fits_is_chosen() -> None:
    assert chosen(QUICK) == "quick"
    assert choose_backend(SHAPE, torch.device("cpu"), (QUICK, YARDSTICK)).name == "quick"


def test_one_that_does_not_fit_the_model_is_passed_over() -> None:
    uncapped = AttentionShape(2, 1, 16, 16, torch.float32)
    assert chosen(QUICK, shape=uncapped) == "slow"


@pytest.mark.parametrize("op", [deaf_to_windows, swayed_by_neighbours, failing])
def test_one_that_errs_is_passed_over(op: AttentionOp) -> None:
    assert chosen(Backend("bad", op, lambda _: True)) == "slow"


def test_triton_is_always_installed() -> None:
    assert installed()[0].name == "triton"
    assert choose_backend(SHAPE, torch.device("cpu")).name == "triton"
