"""Owns how chunks of several queries are cut into tiles, and which of them attend over gathered keys."""

from collections.abc import Sequence

import torch

from loraplex.kernels.attention.meta import AttentionMeta, PrefillPlan
from loraplex.kernels.language import power_of_two

# Which sequences attend over gathered keys, by their own lengths alone: at least so many queries, so that the copy is
# read more than once or twice, and at most so many keys per query, which bounds the copy by the tokens of a step.
_LEAST_QUERIES = 64
MOST_KEYS_PER_QUERY = 16


def can_gather(q: torch.Tensor, window: int) -> bool:
    """Whether the kernel of gathered keys takes such queries at all: q [tokens, heads, head dim]."""
    head_dim = q.shape[2]
    fits = 16 <= head_dim <= 256 and head_dim == power_of_two(head_dim)
    return fits and not window and q.dtype is not torch.float32


def prefill_plan(
    meta: AttentionMeta,
    *,
    gather: bool,
    direct_tokens: int,
    gathered_tokens: int,
    keys: int,
    block_size: int,
) -> PrefillPlan:
    """Cut the sequences of `meta` that have several queries into tiles.

    The layers of one forward pass share a plan when `meta` came from `AttentionMeta.for_forward`.

    Args:
        gather: whether chunks may attend over gathered keys.
        direct_tokens, gathered_tokens: query tokens of a tile of either kind.
        keys: keys per iteration over gathered rows, a multiple of `block_size` or a divisor of it.
        block_size: tokens of a KV block.
    """
    key = (gather, direct_tokens, gathered_tokens, keys, block_size)
    if meta.plans is not None and key in meta.plans.prefill:
        return meta.plans.prefill[key]
    direct: list[tuple[int, int, int, int]] = []
    gathered: list[tuple[int, int, int, int]] = []
    blocks: list[tuple[int, int]] = []
    decodes = False
    for sequence, (count, length) in enumerate(zip(meta.query_lens, meta.kv_lens, strict=True)):
        if count <= 1:
            decodes = decodes or count == 1
            continue
        tiles, tokens, row = direct, direct_tokens, 0
        if gather and count >= _LEAST_QUERIES and length <= MOST_KEYS_PER_QUERY * count:
            tiles, tokens, row = gathered, gathered_tokens, len(blocks) * block_size
            rows = -(-length // keys) * keys  # padded to whole iterations
            blocks += [(sequence, place) for place in range(-(-rows // block_size))]
        before = length - count
        tiles += [
            (sequence, first, row, min(length, before + first + tokens))
            for first in range(0, count, tokens)
        ]
    for tiles in (direct, gathered):
        tiles.sort(key=lambda tile: -tile[3])
    plan = PrefillPlan(
        decodes, *(_on(meta.seq_lens.device, table) for table in (direct, gathered, blocks))
    )
    if meta.plans is not None:
        meta.plans.prefill[key] = plan
    return plan


def _on(device: torch.device, table: Sequence[tuple[int, ...]]) -> torch.Tensor | None:
    if not table:
        return None
    # From pageable memory the copy would wait for every step queued before it.
    host = torch.tensor(table, dtype=torch.int32, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)
