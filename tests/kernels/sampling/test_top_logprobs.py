"""Log-probabilities: kernel and reference against log_softmax in float64."""

from collections.abc import Callable

import pytest
import torch

from loraplex.kernels.sampling.top_logprobs import (
    TopLogprobs,
    top_logprobs_reference,
    top_logprobs_triton,
)

Op = Callable[[torch.Tensor, torch.Tensor, int], TopLogprobs]
both = pytest.mark.parametrize(
    "op", [top_logprobs_triton, top_logprobs_reference], ids=["kernel", "reference"]
)


@both
@pytest.mark.parametrize(
    ("dtype", "vocab", "most"),
    [
        (torch.float32, 30, 20),
        (torch.float32, 5000, 5),
        (torch.bfloat16, 5000, 20),
        (torch.float16, 300, 0),
    ],
    ids=str,
)
def test_most_likely_tokens(
    op: Op, dtype: torch.dtype, vocab: int, most: int, device: torch.device
) -> None:
    logits = (3 * torch.randn(3, vocab)).to(device, dtype)
    logits[0, vocab // 2] = -0.0
    tokens = torch.tensor([0, vocab - 1, vocab // 2], device=device)
    top = op(logits, tokens, most)
    expected = logits.double().log_softmax(-1)
    values, ids = expected.sort(dim=-1, descending=True, stable=True)
    own = expected.gather(-1, tokens[:, None])[:, 0]
    torch.testing.assert_close(top.own.double(), own, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(top.values.double(), values[:, :most], rtol=1e-6, atol=2e-6)
    assert torch.equal(top.ids, ids[:, :most])


@both
def test_equals_in_order_of_token_ids(op: Op, device: torch.device) -> None:
    logits = torch.zeros(1, 6000, device=device, dtype=torch.bfloat16)
    logits[0, [5, 4097]] = 1.0
    top = op(logits, torch.tensor([9], device=device), 6)
    assert top.ids.tolist() == [[5, 4097, 0, 1, 2, 3]]


@both
def test_unusable_row_disturbs_no_other(op: Op, device: torch.device) -> None:
    logits = torch.randn(2, 100, device=device)
    tokens = torch.tensor([3, 4], device=device)
    alone = op(logits[1:], tokens[1:], 2)
    logits[0, 50] = torch.nan
    beside = op(logits, tokens, 2)
    assert all(torch.equal(a[0], b[1]) for a, b in zip(alone, beside, strict=True))
