"""Owns the one pass over all logits: what each chunk of a row contributes to its maximum and its mass.

Rows are cut into chunks so that a single row, too, is read by many processors. Chunks are combined in a fixed order,
so a row's result does not depend on its neighbours.
"""

from typing import NamedTuple

import torch

from loraplex.kernels.language import tl, triton
from loraplex.kernels.sampling.draws import Column, Draws

# Logits per program, and warps.
CHUNK = 4096
_WARPS = 4
# Logits under one peak. The k-th highest peak bounds the k-th highest logit from below, and only blocks whose peak
# passes the bound are searched: with smaller blocks the bound is sharper, with larger ones there are fewer peaks.
PEAK = 32
# Columns of a table of draws.
COLUMNS = len(Column)


class Chunks(NamedTuple):
    """Sums over chunks, all float32.

    Attributes:
        highest: [rows, chunks] maximum; NaN if the chunk holds an unusable number.
        mass: [rows, chunks] sum of exp((logit - highest) / temperature); only with draws.
        peaks: [rows, chunks × CHUNK / PEAK] maxima of every PEAK logits, -inf behind the end; only with cuts.
    """

    highest: torch.Tensor
    mass: torch.Tensor
    peaks: torch.Tensor


def sum_chunks(logits: torch.Tensor, draws: Draws | None, banned: bool) -> Chunks:
    """One pass over [rows, vocab] logits of any float dtype, last dimension contiguous."""
    rows, vocab = logits.shape
    count = -(-vocab // CHUNK)
    peaks = count * (CHUNK // PEAK) if draws is not None and draws.cuts else 0
    sums = Chunks(
        torch.empty((rows, count), dtype=torch.float32, device=logits.device),
        torch.empty((rows, count), dtype=torch.float32, device=logits.device),
        torch.empty((rows, peaks), dtype=torch.float32, device=logits.device),
    )
    _chunk_kernel[(count, rows)](
        logits,
        logits if draws is None else draws.table,
        *sums,
        vocab,
        logits.stride(0),
        count,
        DRAWS=draws is not None,
        PEAKS=peaks > 0,
        BANNED=banned,
        COLUMNS=COLUMNS,
        CHUNK=CHUNK,
        PEAK=PEAK,
        num_warps=_WARPS,
    )
    return sums


@triton.jit
def _chunk_kernel(
    logits_ptr,
    table_ptr,
    highest_ptr,
    mass_ptr,
    peaks_ptr,
    vocab,
    stride,
    chunks,
    DRAWS: tl.constexpr,
    PEAKS: tl.constexpr,
    BANNED: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    PEAK: tl.constexpr,
):
    chunk = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    token = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = token < vocab
    # Behind the end the chunk's first logit is repeated: it changes neither the maximum nor what is unusable.
    first = tl.load(logits_ptr + row * stride + chunk * CHUNK)
    x = tl.load(logits_ptr + row * stride + token, mask=inside, other=first).to(tl.float32)
    checked = tl.where(x == float("-inf"), 0.0, x) if BANNED else x
    # Without its sign, the pattern of a float32 is from 0x7F800000 on infinity or NaN.
    pattern = tl.max(checked.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=0)
    highest = tl.max(x, axis=0)
    at = row * chunks + chunk
    tl.store(highest_ptr + at, tl.where(pattern >= 0x7F800000, float("nan"), highest))
    if DRAWS:
        inverse = tl.load(table_ptr + row * COLUMNS).to(tl.float32)
        base = tl.where(tl.abs(highest) < float("inf"), highest, 0.0)
        # A greedy row's 0 × -inf would be NaN.
        scale = tl.where(inverse > 0.0, inverse, 1.0) * 1.4426950408889634
        weight = tl.where(inside, tl.exp2((x - base) * scale), 0.0)
        tl.store(mass_ptr + at, tl.sum(weight, axis=0))
    if PEAKS:
        x = tl.where(inside, x, float("-inf"))
        peaks = tl.max(tl.reshape(x, [CHUNK // PEAK, PEAK]), axis=1)
        tl.store(peaks_ptr + at * (CHUNK // PEAK) + tl.arange(0, CHUNK // PEAK), peaks)
