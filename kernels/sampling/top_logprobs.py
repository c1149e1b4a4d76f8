"""Owns log-probabilities of rows whose owners asked for them."""

from typing import NamedTuple

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import tl, triton
from loraplex.kernels.sampling.chunks import PEAK, sum_chunks
from loraplex.kernels.sampling.cuts import candidate_token, load_candidates
from loraplex.kernels.sampling.draws import Column, Draws
from loraplex.kernels.sampling.keys import order_key
from loraplex.kernels.sampling.pick import pick

# Logits per iteration of the search for the next lower one.
_BLOCK = 4096


class TopLogprobs(NamedTuple):
    """Natural logarithms of the model's own probabilities.

    Attributes:
        own: [rows] float32, of the chosen tokens.
        values: [rows, most] float32, the highest, falling.
        ids: [rows, most] int64, their tokens.
    """

    own: torch.Tensor
    values: torch.Tensor
    ids: torch.Tensor


def top_logprobs(logits: torch.Tensor, tokens: torch.Tensor, most: int) -> TopLogprobs:
    """Log-probabilities of given tokens and of the most likely ones, the lower id first among equals.

    Args:
        logits: [rows, vocab], float32, float16 or bfloat16, last dimension contiguous. What comes out for a row that
            holds NaN or infinity means nothing.
        tokens: [rows] int64.
        most: 0 to vocab.
    """
    if dispatch.use_triton(logits):
        return top_logprobs_triton(logits, tokens, most)
    return top_logprobs_reference(logits, tokens, most)


def top_logprobs_reference(logits: torch.Tensor, tokens: torch.Tensor, most: int) -> TopLogprobs:
    """Plain-torch twin of `top_logprobs`."""
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.sort(dim=-1, descending=True, stable=True)
    return TopLogprobs(logprobs.gather(-1, tokens[:, None])[:, 0], values[:, :most], ids[:, :most])


def top_logprobs_triton(logits: torch.Tensor, tokens: torch.Tensor, most: int) -> TopLogprobs:
    """Triton launcher of `top_logprobs`."""
    (rows, vocab), device = logits.shape, logits.device
    top = TopLogprobs(
        torch.empty(rows, dtype=torch.float32, device=device),
        torch.empty((rows, most), dtype=torch.float32, device=device),
        torch.empty((rows, most), dtype=torch.int64, device=device),
    )
    if rows == 0:
        return top
    # The `most` likely tokens are what top_k keeps; the sums that its cut needs also give the normaliser.
    table = torch.zeros((rows, len(Column)), dtype=torch.float64, device=device)
    table[:, Column.INVERSE_TEMPERATURE] = table[:, Column.TOP_P] = 1.0
    table[:, Column.TOP_K] = max(most, 1)
    draws = Draws(table, cuts=True)
    unused = torch.empty((2, rows), dtype=torch.int64, device=device)
    candidates = pick(logits, draws, sum_chunks(logits, draws, banned=False), unused)
    _top_kernel[(rows,)](
        logits,
        tokens,
        candidates.blocks,
        candidates.found,
        candidates.highest,
        candidates.mass,
        *top,
        vocab,
        logits.stride(0),
        candidates.blocks.shape[1],
        most,
        PEAK=PEAK,
        BLOCK=_BLOCK,
        num_warps=8,
    )
    return top


@triton.jit(do_not_specialize=["most"])
def _top_kernel(
    logits_ptr,
    tokens_ptr,
    blocks_ptr,
    count_ptr,
    highest_ptr,
    mass_ptr,
    own_out_ptr,
    values_out_ptr,
    ids_out_ptr,
    vocab,
    stride,
    blocks_stride,
    most,
    PEAK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    size = tl.load(count_ptr + row) * PEAK
    if size == 0:
        return
    logits_ptr += row * stride
    blocks_ptr += row * blocks_stride
    norm = tl.load(highest_ptr + row) + tl.log(tl.load(mass_ptr + row).to(tl.float32))
    own = tl.load(logits_ptr + tl.load(tokens_ptr + row)).to(tl.float32)
    tl.store(own_out_ptr + row, own - norm)
    # Orders by logit, then by falling place; no two are equal, so that the next one is the highest below the last.
    last = tl.full([], 9223372036854775807, dtype=tl.int64)
    for rank in range(most):
        best = tl.full([BLOCK], -9223372036854775808, dtype=tl.int64)
        for start in range(0, size, BLOCK):
            x, there = load_candidates(logits_ptr, blocks_ptr, start, size, vocab, PEAK, BLOCK)
            place = start + tl.arange(0, BLOCK)
            order = (order_key(x, 0).to(tl.int64) << 32) | (2147483647 - place).to(tl.int64)
            order = tl.where((order < last) & there, order, -9223372036854775808)
            best = tl.maximum(best, order)
        last = tl.max(best, axis=0)
        place = 2147483647 - (last & 0xFFFFFFFF).to(tl.int32)
        token = candidate_token(blocks_ptr, place, PEAK)
        at = row * most + rank
        tl.store(values_out_ptr + at, tl.load(logits_ptr + token).to(tl.float32) - norm)
        tl.store(ids_out_ptr + at, token.to(tl.int64))
