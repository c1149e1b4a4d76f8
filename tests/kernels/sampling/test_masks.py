"""Taking rows out of the logits: kernel and reference against each token's own bit."""

from collections.abc import Callable

import pytest
import torch

from loraplex.kernels.sampling.masks import take_rows_reference, take_rows_triton

Take = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("take", [take_rows_triton, take_rows_reference], ids=["kernel", "plain"])
@pytest.mark.parametrize(
    ("dtype", "vocab"), [(torch.float32, 50), (torch.bfloat16, 4127), (torch.float16, 8192)]
)
def test_rows_are_copied_and_masked(
    take: Take, dtype: torch.dtype, vocab: int, device: torch.device
) -> None:
    padded = torch.randn(5, vocab + 3).to(dtype)
    padded[1, :] = torch.nan  # of a row that is not taken
    logits = padded[:, :vocab]
    allowed = torch.rand(2, vocab) < 0.3
    allowed[:, 31] = True  # the bit of the sign
    words = -(-vocab // 32)
    bits = torch.ones(
        2, words * 32, dtype=torch.int64
    )  # set behind the end, as a filler may leave them
    bits[:, :vocab] = allowed.long()
    weights = 1 << torch.arange(32)
    masks = (bits.view(2, words, 32) * weights).sum(-1).to(torch.uint32).view(torch.int32)
    rows, of_row = torch.tensor([4, 0, 2]), torch.tensor([1, -1, 0])
    taken = take(logits.to(device), rows.to(device), masks.to(device), of_row.to(device)).cpu()
    expected = logits[rows].float()
    expected[0].masked_fill_(~allowed[1], -torch.inf)
    expected[2].masked_fill_(~allowed[0], -torch.inf)
    assert taken.is_contiguous()
    torch.testing.assert_close(taken, expected, rtol=0, atol=0)


@pytest.mark.parametrize("take", [take_rows_triton, take_rows_reference], ids=["kernel", "plain"])
def test_without_masks_nothing_changes(take: Take, device: torch.device) -> None:
    logits = torch.randn(3, 70)
    none = torch.tensor([-1, -1])
    rows = torch.tensor([2, 0])
    masks = torch.zeros((1, 1), dtype=torch.int32)
    taken = take(logits.to(device), rows.to(device), masks.to(device), none.to(device)).cpu()
    torch.testing.assert_close(taken, logits[rows], rtol=0, atol=0)
