"""Owns taking rows out of the logits to change them, with the tokens a mask forbids at -inf."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import tl, triton

# Logits per program, and warps; a multiple of the 32 tokens of a word.
_CHUNK = 4096
_WARPS = 4


def take_rows(
    logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor, of_row: torch.Tensor
) -> torch.Tensor:
    """Copy rows of the logits, and forbid tokens in some of them.

    Args:
        logits: [all rows, vocab], any float dtype, last dimension contiguous.
        rows: [rows] int64, which to copy.
        masks: [masks, ceil(vocab / 32)] int32, contiguous; bit t % 32 of word t // 32 allows token t.
        of_row: [rows] int64, the mask of each, -1 for none.

    Returns:
        [rows, vocab] float32, contiguous.
    """
    if dispatch.use_triton(logits):
        return take_rows_triton(logits, rows, masks, of_row)
    return take_rows_reference(logits, rows, masks, of_row)


def take_rows_reference(
    logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor, of_row: torch.Tensor
) -> torch.Tensor:
    """Plain-torch twin of `take_rows`."""
    taken = logits.index_select(0, rows).to(torch.float32)
    token = torch.arange(logits.shape[1], device=logits.device)
    for row, mask in enumerate(of_row.tolist()):
        if mask >= 0:
            bits = masks[mask][token // 32] >> (token % 32)
            taken[row].masked_fill_(bits & 1 == 0, -torch.inf)
    return taken


def take_rows_triton(
    logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor, of_row: torch.Tensor
) -> torch.Tensor:
    """Triton launcher of `take_rows`."""
    vocab = logits.shape[1]
    taken = torch.empty((len(rows), vocab), dtype=torch.float32, device=logits.device)
    if len(rows):
        _take_kernel[(-(-vocab // _CHUNK), len(rows))](
            logits,
            rows,
            masks,
            of_row,
            taken,
            vocab,
            logits.stride(0),
            masks.shape[1],
            CHUNK=_CHUNK,
            num_warps=_WARPS,
        )
    return taken


@triton.jit
def _take_kernel(
    logits_ptr,
    rows_ptr,
    masks_ptr,
    of_row_ptr,
    taken_ptr,
    vocab,
    stride,
    words,
    CHUNK: tl.constexpr,
):
    token = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    row = tl.program_id(1).to(tl.int64)
    inside = token < vocab
    source = tl.load(rows_ptr + row)
    mask = tl.load(of_row_ptr + row)
    x = tl.load(logits_ptr + source * stride + token, mask=inside).to(tl.float32)
    # All bits set where there is no mask.
    masked = tl.where(mask >= 0, vocab, 0)
    word = tl.load(masks_ptr + mask * words + token // 32, mask=token < masked, other=-1)
    x = tl.where((word >> (token % 32)) & 1 == 1, x, float("-inf"))
    tl.store(taken_ptr + row * vocab + token, x, mask=inside)
