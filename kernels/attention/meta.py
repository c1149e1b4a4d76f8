"""Owns what attention needs to know about a batch beside its tensors."""

from dataclasses import dataclass, field, replace
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


class DecodePlan(NamedTuple):
    """Work items of the sequences with one query, on the device (`plan.py`).

    Attributes:
        items: [most items, fields] int32.
        total: [1] int32, how many of them there are.
        arrived: [sequences × KV heads] int32, parts finished; zero between launches.
        most_items: upper bound of `total`.
    """

    items: torch.Tensor
    total: torch.Tensor
    arrived: torch.Tensor
    most_items: int


class PrefillPlan(NamedTuple):
    """How the chunks of a batch are attended (`tiles.py`). Tables are on the device, None where they would be empty.

    Attributes:
        decodes: whether there are sequences with one query beside the chunks.
        direct, gathered: [query tiles, 4] int32: sequence, first query, first gathered row, keys seen; longest first.
            The one kind reads keys from their blocks, the other from gathered rows.
        blocks: [gathered blocks, 2] int32: sequence, place among its blocks.
    """

    decodes: bool
    direct: torch.Tensor | None
    gathered: torch.Tensor | None
    blocks: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class ForwardPlans:
    """What the layers of one forward pass share, by what it depends on beside the batch."""

    decode: dict[tuple[int, ...], DecodePlan] = field(default_factory=dict)
    prefill: dict[tuple[int, ...], PrefillPlan] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttentionMeta:
    """Which tokens of a batch see which blocks. Sequence b's queries are the last `query_lens[b]` positions of its
    `kv_lens[b]` tokens.

    Attributes:
        query_starts: [sequences + 1] int32 on the device, first token of each sequence in q, and their number.
        seq_lens: [sequences] int32 on the device, KV tokens including this step's.
        block_tables: [sequences, most blocks] int32 on the device; entries past a sequence's blocks are stale.
        query_lens: host copy of the differences of `query_starts`.
        kv_lens: host copy of `seq_lens`; in a captured graph anything, the kernels read `seq_lens`.
        plans: what the layers of one forward pass share, None where every call makes its own.
    """

    query_starts: torch.Tensor
    seq_lens: torch.Tensor
    block_tables: torch.Tensor
    query_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    plans: ForwardPlans | None = field(default=None, repr=False, compare=False)
    # CPU only: what the reference derived from the above, by (block size, window). Every layer needs it again.
    _decode_groups: dict[tuple[int, int], tuple[DecodeGroup, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def for_forward(self) -> "AttentionMeta":
        """The same batch for one forward pass: its layers share what the first of them derives on the device.

        A pass that is captured must begin with this inside the capture, so that every replay derives it anew.
        """
        return replace(self, plans=ForwardPlans())
