"""Owns how the keys of sequences with a single query are split into the work items of the decode kernel."""

from typing import NamedTuple

import torch

from loraplex.kernels.attention.meta import AttentionMeta, DecodePlan
from loraplex.kernels.language import power_of_two, tl, triton

# Integers per item: sequence, its token in q, first key, end of keys, first key in the window, part, parts, unused.
FIELDS = 8
# A long sequence may be split into so many parts: as many as keep all parts of a batch below `_PARTS`, within limits.
_PARTS = 4096
_LEAST_SPLIT, _MOST_SPLIT = 8, 64


class DecodeSplit(NamedTuple):
    """How the sequences of a bucket are split: into parts of `part` keys, but at most `few` of them; a sequence so long
    that these exceed `long_part` keys is split into parts of that size, at most `most` of them."""

    part: int
    few: int
    long_part: int
    most: int


def most_parts(sequences: int) -> int:
    """Upper bound of the parts that up to so many sequences are split into."""
    return max(_LEAST_SPLIT * sequences, min(_MOST_SPLIT * sequences, _PARTS))


def decode_split(sequences: int, kv_heads: int) -> DecodeSplit:
    """The split of a batch. A sequence's parts depend on this and on its own length, never on its neighbours.

    Measured on one H200, 8 KV heads of 128, microseconds per layer. One sequence of 345 tokens in 1, 3, 6 parts: 15,
    10, 8. One of 8192 in 4, 8, 16, 32, 64 parts: 65, 37, 25, 24, 37. 32 of 8192 tokens in 4, 8, 16 parts: 278, 543, 956
    (the sums of many parts at once are slow), so batches that fill the GPU anyway split late. Of 32 sequences one of
    8192 and 31 of 345 tokens in parts of 512 and 2048: 35 and 73, unsplit 274.
    """
    most = max(_LEAST_SPLIT, min(_MOST_SPLIT, _PARTS // sequences))
    if sequences == 1:
        return DecodeSplit(64, 16, 2048, most)
    if sequences * kv_heads <= 64:
        return DecodeSplit(64, 8, 2048, most)
    return DecodeSplit(2048, 1, 2048, most)


def decode_plan(
    meta: AttentionMeta,
    split: DecodeSplit,
    kv_heads: int,
    block_size: int,
    window: int,
    keys: int,
) -> DecodePlan:
    """The work items of a batch, as written by a kernel that reads the lengths on the device.

    The layers of one forward pass share a plan when `meta` came from `AttentionMeta.for_forward`.
    """
    key = (*split, kv_heads, block_size, window, keys)
    if meta.plans is not None and key in meta.plans.decode:
        return meta.plans.decode[key]
    sequences = len(meta.query_lens)
    # The table's width bounds every length, also in a captured graph.
    longest = meta.block_tables.shape[1] * block_size
    most = max(
        1,
        min(split.few, -(-longest // split.part)),
        min(split.most, -(-longest // split.long_part)),
    )
    device = meta.seq_lens.device
    plan = DecodePlan(
        items=torch.empty((sequences * most, FIELDS), dtype=torch.int32, device=device),
        total=torch.empty(1, dtype=torch.int32, device=device),
        arrived=torch.empty(sequences * kv_heads, dtype=torch.int32, device=device),
        most_items=sequences * most,
    )
    _plan_kernel[(1,)](
        meta.query_starts,
        meta.seq_lens,
        plan.items,
        plan.total,
        plan.arrived,
        sequences,
        kv_heads,
        window,
        -(-split.part // keys),
        split.few,
        -(-split.long_part // keys),
        split.most,
        FIELDS=FIELDS,
        SEQUENCES=power_of_two(max(512, sequences)),
        HAS_WINDOW=window > 0,
        KEYS=keys,
        num_warps=4,
    )
    if meta.plans is not None:
        meta.plans.decode[key] = plan
    return plan


@triton.jit(do_not_specialize=["sequences", "window", "part_tiles", "few", "long_tiles", "most"])
def _plan_kernel(
    query_starts_ptr,
    seq_lens_ptr,
    items_ptr,
    count_ptr,
    arrived_ptr,
    sequences,
    kv_heads,
    window,
    part_tiles,
    few,
    long_tiles,
    most,
    FIELDS: tl.constexpr,
    SEQUENCES: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    KEYS: tl.constexpr,
):
    sequence = tl.arange(0, SEQUENCES)
    inside = sequence < sequences
    token = tl.load(query_starts_ptr + sequence, mask=inside, other=0)
    end = tl.load(query_starts_ptr + sequence + 1, mask=inside, other=0)
    kv_len = tl.load(seq_lens_ptr + sequence, mask=inside, other=0)
    seen_from = tl.zeros_like(kv_len)
    if HAS_WINDOW:
        seen_from = tl.maximum(kv_len - window, 0)
    # Iterations start at multiples of KEYS, so a key's place in one does not depend on the window.
    first = seen_from // KEYS
    tiles = tl.cdiv(kv_len, KEYS) - first
    # A padding sequence has no keys but one item, which writes zeros.
    parts = tl.minimum(tl.maximum(tl.cdiv(tiles, part_tiles), 1), few)
    parts = tl.maximum(parts, tl.minimum(tl.cdiv(tiles, long_tiles), most))
    parts = tl.where(inside & (end - token == 1), parts, 0)
    divisor = tl.maximum(parts, 1)
    item = items_ptr + (tl.cumsum(parts, axis=0) - parts) * FIELDS
    tl.store(count_ptr, tl.sum(parts, axis=0))
    for part in range(tl.max(parts, axis=0)):
        exists = part < parts
        at = item + part * FIELDS
        tl.store(at, sequence, mask=exists)
        tl.store(at + 1, token, mask=exists)
        tl.store(at + 2, (first + part * tiles // divisor) * KEYS, mask=exists)
        last = tl.minimum((first + (part + 1) * tiles // divisor) * KEYS, kv_len)
        tl.store(at + 3, last, mask=exists)
        tl.store(at + 4, seen_from, mask=exists)
        tl.store(at + 5, tl.zeros_like(kv_len) + part, mask=exists)
        tl.store(at + 6, parts, mask=exists)
    for kv_head in range(kv_heads):
        tl.store(arrived_ptr + sequence * kv_heads + kv_head, tl.zeros_like(kv_len), mask=inside)
