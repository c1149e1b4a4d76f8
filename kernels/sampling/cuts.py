"""Owns drawing with top_k, top_p and min_p: the threshold is searched among the candidates, and a token is drawn from
what lies above it, in vocabulary order. Nothing is sorted.

All three cuts keep a prefix of the order "higher logit first, then lower token id". The prefix is found as the logit of
its last member and how many equals of it are kept.
"""

import torch

from loraplex.kernels.language import tl, triton
from loraplex.kernels.sampling.chunks import COLUMNS, PEAK
from loraplex.kernels.sampling.draws import Draws
from loraplex.kernels.sampling.keys import key_shift, key_value, order_key
from loraplex.kernels.sampling.pick import Candidates

# Logits per iteration, and warps. Most rows have no more candidates than this.
_BLOCK = 4096
_WARPS = 16


def draw_with_cuts(
    logits: torch.Tensor, draws: Draws, candidates: Candidates, result: torch.Tensor
) -> None:
    """Write the tokens of rows with cuts to the first row of [2, rows] int64 `result`."""
    _draw_kernel[(len(logits),)](
        logits,
        draws.table,
        *candidates,
        result,
        logits.shape[1],
        logits.stride(0),
        candidates.blocks.shape[1],
        COLUMNS=COLUMNS,
        SHIFT=key_shift(logits.dtype),
        PEAK=PEAK,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )


@triton.jit
def load_candidates(
    logits_ptr, blocks_ptr, start, size, vocab, PEAK: tl.constexpr, BLOCK: tl.constexpr
):
    """float32 logits of `BLOCK` candidates from `start` of `size`, -inf behind the end, and which are there."""
    place = start + tl.arange(0, BLOCK)
    block = tl.load(blocks_ptr + place // PEAK, mask=place < size, other=0)
    token = block * PEAK + place % PEAK
    token = tl.max_contiguous(tl.multiple_of(token, 8), 8)
    there = (place < size) & (token < vocab)
    return tl.load(logits_ptr + token, mask=there, other=float("-inf")).to(tl.float32), there


@triton.jit
def candidate_token(blocks_ptr, place, PEAK: tl.constexpr):
    """Token id of a candidate."""
    return tl.load(blocks_ptr + place // PEAK) * PEAK + place % PEAK


@triton.jit
def _weight(key, top, scale, SHIFT: tl.constexpr):
    """What a logit with this key weighs; keys between those of numbers may stand for huge ones."""
    return tl.exp2(tl.maximum(key_value(key, SHIFT) - top, -1e30) * scale)


@triton.jit
def _pivot(low, high, quarter, by_value, SHIFT: tl.constexpr):
    """A key about `quarter` quarters of the way from `low` to `high`, in [low, high)."""
    span = high - low
    by_key = low + ((span - 1) * quarter + 1) // 4
    bottom = tl.maximum(key_value(low.to(tl.int32), SHIFT), -1e30)
    width = key_value(high.to(tl.int32), SHIFT) - bottom
    between = order_key(bottom + width * (0.25 * quarter), SHIFT).to(tl.int64)
    return tl.minimum(tl.maximum(tl.where(by_value, between, by_key), low), high - 1).to(tl.int32)


@triton.jit
def _draw_kernel(
    logits_ptr,
    table_ptr,
    blocks_ptr,
    count_ptr,
    bound_ptr,
    highest_ptr,
    mass_ptr,
    result_ptr,
    vocab,
    stride,
    blocks_stride,
    COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr,
    PEAK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    size = tl.load(count_ptr + row) * PEAK
    if size == 0:
        return
    logits_ptr += row * stride
    blocks_ptr += row * blocks_stride
    top = tl.load(highest_ptr + row)
    scale = tl.load(table_ptr + row * COLUMNS).to(tl.float32) * 1.4426950408889634
    top_k = tl.load(table_ptr + row * COLUMNS + 1).to(tl.int32)
    top_k = tl.where(top_k > 0, top_k, 2147483647)
    top_p = tl.load(table_ptr + row * COLUMNS + 2)
    most = tl.where(top_p < 1.0, top_p * tl.load(mass_ptr + row), 1e20).to(tl.float32)
    min_p = tl.load(table_ptr + row * COLUMNS + 3).to(tl.float32)

    # The lowest key whose first owner is kept, that is, above which there is still room. Three pivots a pass; the
    # first passes divide the interval by value, because most keys stand for numbers next to zero.
    low = tl.load(bound_ptr + row).to(tl.int64)
    high = order_key(top, SHIFT).to(tl.int64)
    passes = 0
    while low < high:
        by_value = (passes < 4) & (key_value(low.to(tl.int32), SHIFT) > -1e30)
        a = _pivot(low, high, 1, by_value, SHIFT)
        b = _pivot(low, high, 2, by_value, SHIFT)
        c = _pivot(low, high, 3, by_value, SHIFT)
        count_a = tl.zeros([BLOCK], dtype=tl.int32)
        count_b = tl.zeros([BLOCK], dtype=tl.int32)
        count_c = tl.zeros([BLOCK], dtype=tl.int32)
        mass_a = tl.zeros([BLOCK], dtype=tl.float32)
        mass_b = tl.zeros([BLOCK], dtype=tl.float32)
        mass_c = tl.zeros([BLOCK], dtype=tl.float32)
        for start in range(0, size, BLOCK):
            x, _ = load_candidates(logits_ptr, blocks_ptr, start, size, vocab, PEAK, BLOCK)
            keys = order_key(x, SHIFT)
            weight = tl.exp2((x - top) * scale)
            count_a += (keys > a).to(tl.int32)
            count_b += (keys > b).to(tl.int32)
            count_c += (keys > c).to(tl.int32)
            mass_a += tl.where(keys > a, weight, 0.0)
            mass_b += tl.where(keys > b, weight, 0.0)
            mass_c += tl.where(keys > c, weight, 0.0)
        kept_a = (tl.sum(count_a, axis=0) < top_k) & (tl.sum(mass_a, axis=0) < most)
        kept_b = (tl.sum(count_b, axis=0) < top_k) & (tl.sum(mass_b, axis=0) < most)
        kept_c = (tl.sum(count_c, axis=0) < top_k) & (tl.sum(mass_c, axis=0) < most)
        kept_a = kept_a & (_weight(a, top, scale, SHIFT) >= min_p)
        kept_b = kept_b & (_weight(b, top, scale, SHIFT) >= min_p)
        kept_c = kept_c & (_weight(c, top, scale, SHIFT) >= min_p)
        next_low = tl.where(kept_b, a + 1, tl.where(kept_c, b + 1, c + 1)).to(tl.int64)
        next_high = tl.where(kept_b, b.to(tl.int64), tl.where(kept_c, c.to(tl.int64), high))
        low = tl.where(kept_a, low, next_low)
        high = tl.where(kept_a, a.to(tl.int64), next_high)
        passes += 1
    threshold = high.to(tl.int32)

    # Of the threshold's owners as many are kept as the cuts leave room for, lowest token ids first.
    above = tl.zeros([BLOCK], dtype=tl.int32)
    owners = tl.zeros([BLOCK], dtype=tl.int32)
    masses = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, size, BLOCK):
        x, there = load_candidates(logits_ptr, blocks_ptr, start, size, vocab, PEAK, BLOCK)
        keys = order_key(x, SHIFT)
        above += (keys > threshold).to(tl.int32)
        owners += ((keys == threshold) & there).to(tl.int32)
        masses += tl.where(keys > threshold, tl.exp2((x - top) * scale), 0.0)
    mass = tl.sum(masses, axis=0)
    each = _weight(threshold, top, scale, SHIFT)
    room = tl.ceil(tl.minimum((most - mass) / tl.maximum(each, 1e-18), 1e9)).to(tl.int32)
    room = tl.maximum(tl.minimum(room, top_k - tl.sum(above, axis=0)), 1)
    equals = tl.sum(owners, axis=0)
    end = size
    if room < equals:
        seen = 0
        for start in range(0, size, BLOCK):
            x, there = load_candidates(logits_ptr, blocks_ptr, start, size, vocab, PEAK, BLOCK)
            owner = ((order_key(x, SHIFT) == threshold) & there).to(tl.int32)
            here = tl.sum(owner, axis=0)
            if (seen < room) & (seen + here >= room):
                place = start + tl.arange(0, BLOCK)
                order = seen + tl.cumsum(owner, axis=0)
                end = tl.min(tl.where((owner > 0) & (order == room), place + 1, size), axis=0)
            seen += here

    total = mass.to(tl.float64) + tl.minimum(room, equals).to(tl.float64) * each.to(tl.float64)
    target = tl.load(table_ptr + row * COLUMNS + 4) * total
    before = tl.full([1], 0.0, dtype=tl.float64)
    chosen = -1
    last = 0
    for start in range(0, size, BLOCK):
        if chosen < 0:
            x, there = load_candidates(logits_ptr, blocks_ptr, start, size, vocab, PEAK, BLOCK)
            place = start + tl.arange(0, BLOCK)
            keys = order_key(x, SHIFT)
            kept = (keys > threshold) | ((keys == threshold) & (place < end))
            weight = tl.where(kept & there, tl.exp2((x - top) * scale), 0.0).to(tl.float64)
            final = tl.max(tl.where(weight > 0.0, place, 0), axis=0)
            last = tl.maximum(last, final)
            here = tl.sum(weight, axis=0)
            if tl.sum((before + here > target).to(tl.int32), axis=0) > 0:
                reached = (before + tl.cumsum(weight, axis=0) > target) & (weight > 0.0)
                chosen = tl.minimum(tl.min(tl.where(reached, place, 2147483647), axis=0), final)
            before += here
    # Rounding may leave the target behind the end.
    chosen = tl.where(chosen < 0, last, chosen)
    tl.store(result_ptr + row, candidate_token(blocks_ptr, chosen, PEAK).to(tl.int64))
