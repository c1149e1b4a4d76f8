"""Attention of many sequences with one query, keys not split."""

import pytest
import torch

from loraplex.kernels.attention import kernel
from loraplex.kernels.attention.kernel import paged_attention_triton
from support.numerics import assert_near
from support.paged_case import PagedCase, Sequences

# Decodes of all lengths, a chunk of a prompt between them, and none of the first tile's keys for a window.
MIXED: Sequences = ((1, 300), (1, 1), (5, 64), (1, 65), (1, 16))


@pytest.mark.parametrize("window", [0, 100])
@pytest.mark.parametrize(
    ("q_heads", "kv_heads", "head_dim", "dtype"),
    [(4, 2, 64, torch.bfloat16), (3, 1, 80, torch.float32), (2, 2, 128, torch.float16)],
    ids=["gqa", "odd", "mha"],
)
def test_equals_dense_attention(
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    window: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "MOST_SPLIT_SEQUENCES", 0)
    case = PagedCase(MIXED, q_heads, kv_heads, head_dim, dtype, device)
    out = paged_attention_triton(
        case.q, case.k_cache, case.v_cache, case.meta, case.scale, window, 20.0
    )
    assert_near("attended", out, case.expected(window=window, soft_cap=20.0))


def test_padding_gets_zeros(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MOST_SPLIT_SEQUENCES", 0)
    case = PagedCase(((1, 20), (1, 30)), 4, 2, 64, torch.float32, device)
    case.meta.seq_lens[1] = 0
    out = paged_attention_triton(case.q, case.k_cache, case.v_cache, case.meta, case.scale)
    assert_near("attended", out[:1], case.expected()[:1])
    assert not out[1].any()
