"""Owns what follows from the sums of chunks alone: the greedy choice, a draw without cuts, and for a row with cuts the
blocks of logits in which anything can be kept."""

from typing import NamedTuple

import torch

from loraplex.kernels.language import power_of_two, tl, triton
from loraplex.kernels.sampling.chunks import CHUNK, COLUMNS, PEAK, Chunks
from loraplex.kernels.sampling.draws import Draws
from loraplex.kernels.sampling.keys import key_shift, order_key


class Candidates(NamedTuple):
    """Where the kept logits of rows with cuts are.

    Attributes:
        blocks: [rows, peaks] int32, first the blocks of PEAK logits to search, in ascending order.
        found: [rows] int32, how many blocks; 0 for a row that has no cuts or is not usable.
        bound: [rows] int32, key of a logit below which nothing is kept.
        highest: [rows] float32, the row's maximum.
        mass: [rows] float64, sum of exp((logit - highest) / temperature) over the vocabulary.
    """

    blocks: torch.Tensor
    found: torch.Tensor
    bound: torch.Tensor
    highest: torch.Tensor
    mass: torch.Tensor


def pick(
    logits: torch.Tensor, draws: Draws | None, sums: Chunks, result: torch.Tensor
) -> Candidates:
    """Write [2, rows] int64 `result`: token, and whether the row is usable; tokens of rows with cuts come later."""
    (rows, vocab), device = logits.shape, logits.device
    count, peaks = sums.highest.shape[1], -(-vocab // PEAK)
    cuts = draws is not None and draws.cuts
    found = Candidates(
        torch.empty((rows, peaks if cuts else 0), dtype=torch.int32, device=device),
        torch.empty(rows, dtype=torch.int32, device=device),
        torch.empty(rows, dtype=torch.int32, device=device),
        torch.empty(rows, dtype=torch.float32, device=device),
        torch.empty(rows, dtype=torch.float64, device=device),
    )
    _pick_kernel[(rows,)](
        logits,
        logits if draws is None else draws.table,
        *sums,
        result,
        *found,
        rows,
        vocab,
        logits.stride(0),
        count,
        sums.peaks.shape[1],
        peaks,
        DRAWS=draws is not None,
        CUTS=cuts,
        COLUMNS=COLUMNS,
        SHIFT=key_shift(logits.dtype),
        CHUNK=CHUNK,
        CHUNKS=power_of_two(count),
        PEAKS=power_of_two(peaks),
        num_warps=8,
    )
    return found


@triton.jit(do_not_specialize=["rows"])
def _pick_kernel(
    logits_ptr,
    table_ptr,
    highest_ptr,
    mass_ptr,
    peaks_ptr,
    result_ptr,
    blocks_ptr,
    count_ptr,
    bound_ptr,
    row_highest_ptr,
    row_mass_ptr,
    rows,
    vocab,
    stride,
    chunks,
    peaks_stride,
    peaks,
    DRAWS: tl.constexpr,
    CUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,
    PEAKS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.arange(0, CHUNKS)
    present = chunk < chunks
    at = row * chunks + chunk
    highest = tl.load(highest_ptr + at, mask=present, other=float("-inf"))
    usable = tl.sum((highest != highest).to(tl.int32), axis=0) == 0
    # NaN goes no further than this line; what is computed from here on for an unusable row is dropped.
    highest = tl.where(highest == highest, highest, float("-inf"))
    top = tl.max(highest, axis=0)
    base = tl.where(top > float("-inf"), top, 0.0)
    # The chunk that holds the choice, then the first place in it that was reached.
    hit = tl.min(tl.where(highest == top, chunk, chunks - 1), axis=0)
    if DRAWS:
        inverse = tl.load(table_ptr + row * COLUMNS).to(tl.float32)
        drawn = usable & (inverse > 0.0)
        # A greedy row's 0 × -inf would be NaN.
        scale = tl.where(drawn, inverse, 1.0) * 1.4426950408889634
        sums = tl.load(mass_ptr + at, mask=present, other=0.0)
        sums = tl.where(highest > float("-inf"), sums, 0.0)
        mass = (sums * tl.exp2((highest - base) * scale)).to(tl.float64)
        total = tl.sum(mass, axis=0)
        target = tl.load(table_ptr + row * COLUMNS + 4) * total
        passed = (tl.cumsum(mass, axis=0) <= target) & present
        # Rounding may leave the target behind the end.
        last = tl.max(tl.where(mass > 0.0, chunk, 0), axis=0)
        reached_chunk = tl.minimum(tl.sum(passed.to(tl.int32), axis=0), last)
        before = tl.sum(tl.where(chunk < reached_chunk, mass, 0.0), axis=0)
        hit = tl.where(drawn, reached_chunk, hit)
    place = hit * CHUNK + tl.arange(0, CHUNK)
    inside = place < vocab
    x = tl.load(logits_ptr + row * stride + place, mask=inside, other=float("-inf"))
    x = x.to(tl.float32)
    reached = (x == top) & inside
    end = vocab - 1
    if DRAWS:
        weight = tl.where(inside & drawn, tl.exp2((x - base) * scale), 0.0).to(tl.float64)
        above = (tl.cumsum(weight, axis=0) + before > target) & (weight > 0.0)
        reached = (reached & (drawn == 0)) | (above & drawn)
        end = tl.where(drawn, tl.max(tl.where(weight > 0.0, place, 0), axis=0), end)
    token = tl.minimum(tl.min(tl.where(reached, place, 2147483647), axis=0), end)
    tl.store(result_ptr + row, tl.where(usable, token, 0).to(tl.int64))
    tl.store(result_ptr + rows + row, usable.to(tl.int64))
    if CUTS:
        top_k = tl.load(table_ptr + row * COLUMNS + 1).to(tl.int32)
        top_p = tl.load(table_ptr + row * COLUMNS + 2)
        min_p = tl.load(table_ptr + row * COLUMNS + 3).to(tl.float32)
        found = 0
        if drawn & ((top_k > 0) | (top_p < 1.0) | (min_p > 0.0)):
            # All logits up to this one together weigh no more than what top_p leaves out; the little that is taken
            # off covers rounding.
            rest = tl.maximum((1.0 - top_p) * total / vocab, 1e-30).to(tl.float32)
            by_mass = top + (tl.log(rest) - 0.01) / inverse
            by_share = top + (tl.log(tl.maximum(min_p, 1e-30)) - 0.01) / inverse
            bound = tl.maximum(
                tl.where(top_p < 1.0, by_mass, float("-inf")),
                tl.where(min_p > 0.0, by_share, float("-inf")),
            )
            enough_tokens = tl.where(top_k > 0, top_k, 2147483647)
            enough_mass = tl.where(top_p < 1.0, top_p * total, 1e20).to(tl.float32)
            block = tl.arange(0, PEAKS)
            peak = tl.load(
                peaks_ptr + row * peaks_stride + block, mask=block < peaks, other=float("-inf")
            )
            keys = order_key(peak, SHIFT)
            shares = tl.exp2((peak - top) * scale)
            # Peaks are tokens themselves: the highest key at which they alone are as many, or weigh as much, as the
            # cuts leave.
            low = order_key(bound, SHIFT).to(tl.int64)
            high = order_key(top, SHIFT).to(tl.int64)
            while low < high:
                middle = ((low + high + 1) >> 1).to(tl.int32)
                tokens = tl.sum((keys >= middle).to(tl.int32), axis=0)
                covered = tl.sum(tl.where(keys >= middle, shares, 0.0), axis=0)
                enough = (tokens >= enough_tokens) | (covered >= enough_mass)
                low = tl.where(enough, middle.to(tl.int64), low)
                high = tl.where(enough, high, (middle - 1).to(tl.int64))
            active = (keys >= low) & (block < peaks)
            slot = tl.cumsum(active.to(tl.int32), axis=0) - 1
            tl.store(blocks_ptr + row * peaks + slot, block, mask=active)
            found = tl.sum(active.to(tl.int32), axis=0)
            tl.store(bound_ptr + row, low.to(tl.int32))
            tl.store(row_highest_ptr + row, top)
            tl.store(row_mass_ptr + row, total)
        tl.store(count_ptr + row, found)
