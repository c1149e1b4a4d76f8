"""Owns what attention needs to know about a batch beside its tensors."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch


class DecodeGroup(NamedTuple):
    """CPU only: sequences of one query token and similar length, gathered and attended together.

    Attributes:
        rows: [group] int64, their tokens in q.
        blocks: [group × blocks per sequence] int64; places past a sequence's end repeat its first block.
        stale: int64, gathered positions that hold no token of the sequence: zeroed before use, as they may hold NaN.
        mask: [group, 1, 1, positions] float32, 0 where a key is seen and -inf elsewhere.
    """

    rows: torch.Tensor
    blocks: torch.Tensor
    stale: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class AttentionMeta:
    """Which tokens of a batch see which blocks. Sequence b's queries are the last `query_lens[b]` positions of its
    `kv_lens[b]` tokens.

    Attributes:
        query_starts: [sequences + 1] int32 on the device, first token of each sequence in q, and their number.
        seq_lens: [sequences] int32 on the device, KV tokens including this step's.
        block_tables: [sequences, most blocks] int32 on the device; entries past a sequence's blocks are stale.
        query_lens: host copy of the differences of `query_starts`.
        kv_lens: host copy of `seq_lens`.
    """

    query_starts: torch.Tensor
    seq_lens: torch.Tensor
    block_tables: torch.Tensor
    query_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    # CPU only: what the reference derived from the above, by (block size, window). Every layer needs it again.
    _decode_groups: dict[tuple[int, int], tuple[DecodeGroup, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )
