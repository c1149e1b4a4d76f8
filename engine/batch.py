"""Owns the tensors of one step: what `Decoder.forward` reads beside the weights."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.pooler import Part, pooled_by
from loraplex.engine.prompt_scores import Scored, scored_by
from loraplex.engine.scheduler import Scheduled
from loraplex.engine.sequence import Sequence
from loraplex.engine.transfer import to_device
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.lora.tables import LoRASegments, token_slots, ways_for
from loraplex.kernels.token_ids import resolve_token_ids

Span = tuple[int, int, int]  # (adapter slot, first row, end row)
# Sorts rows of the base model behind those of every adapter.
_NO_SLOT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class HostBatch:
    """A step laid out on the host. Tokens of one sequence are adjacent, and so are the sequences of one adapter;
    rows of the base model come last.

    Attributes:
        num_tokens: [sequences] int64, tokens computed in this step.
        kv_lens: [sequences] int64, tokens in the KV cache after the step.
        input_ids: [tokens] int64; ~row for the token in that row of those the step before has sampled.
        positions: [tokens] int64.
        kv_slots: [tokens] int64, block × BLOCK_SIZE + offset where each token's K and V are written.
        block_tables: [sequences, most blocks] int32.
        spans: which tokens use which adapter.
        sampled: sequences whose next token is sampled, in order of their rows in the logits.
        sampled_rows: [sampled] int64, each one's last token.
        sampled_spans: like `spans`, over the rows of the logits.
        pooled: what it gives for vectors of prompts.
        scored: whose prompt's log-probabilities are asked for, and which of them this step can tell.
    """

    num_tokens: np.ndarray
    kv_lens: np.ndarray
    input_ids: np.ndarray
    positions: np.ndarray
    kv_slots: np.ndarray
    block_tables: np.ndarray
    spans: tuple[Span, ...]
    sampled: tuple[Sequence, ...]
    sampled_rows: np.ndarray
    sampled_spans: tuple[Span, ...]
    scored: tuple[Scored, ...] = ()
    pooled: tuple[Part, ...] = ()

    @property
    def is_decode(self) -> bool:
        """Whether every sequence computes one token and samples the next."""
        return len(self.sampled) == len(self.input_ids)

    def padded(self, tokens: int) -> "HostBatch":
        """The same step with tokens behind its own that belong to no sequence and write no KV."""
        more = (0, tokens - len(self.input_ids))
        return replace(
            self,
            input_ids=np.pad(self.input_ids, more),
            positions=np.pad(self.positions, more),
            kv_slots=np.pad(self.kv_slots, more, constant_values=-1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is known of a step's tokens one by one, on the device; tensors as in `HostBatch`, with every token id filled
    in. `segments` says which tokens use which adapter, None if none does."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    segments: LoRASegments | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Tokens):
    """A step on the device. `sampled_segments` says which rows of the logits use which adapter; `sampled_rows` is None
    if all rows are sampled."""

    attention: AttentionMeta
    sampled_rows: torch.Tensor | None
    sampled_segments: LoRASegments | None


def lay_out(scheduled: list[Scheduled], tables: np.ndarray) -> HostBatch:
    """Arrange a schedule. No work per token or per block is done in Python.

    Args:
        scheduled: at least one sequence, each holding blocks for the tokens it computes.
        tables: `BlockManager.tables`.
    """
    slots = np.asarray([_NO_SLOT if s.slot is None else s.slot for s, _ in scheduled])
    if (slots[:-1] > slots[1:]).any():
        order = np.argsort(slots, kind="stable")
        slots = slots[order]
        scheduled = [scheduled[i] for i in order.tolist()]
    sequences = [sequence for sequence, _ in scheduled]
    lengths = np.asarray([count for _, count in scheduled])
    computed = np.asarray([s.num_computed for s in sequences])
    kv_lens = computed + lengths
    ends = lengths.cumsum()
    width = -(-int(kv_lens.max()) // BLOCK_SIZE)
    block_tables = tables[np.asarray([s.row for s in sequences]), :width]

    total = int(ends[-1])
    if total == len(sequences):
        rows = np.arange(total)
        positions = computed
        input_ids = np.asarray(
            [~s.sampled_row if s.pending else s.tokens[s.num_computed] for s in sequences]
        )
    else:
        rows = np.repeat(np.arange(len(sequences)), lengths)
        positions = np.arange(total) + (computed - ends + lengths)[rows]
        input_ids = np.empty(total, dtype=np.int64)
        at = 0
        for sequence, count in scheduled:
            if sequence.pending:
                input_ids[at] = ~sequence.sampled_row
            else:
                start = sequence.num_computed
                input_ids[at : at + count] = sequence.tokens[start : start + count]
            at += count
    # Of sequences that are to become vectors nothing is sampled.
    known = np.asarray([len(s.tokens) + s.pending if s.pooling is None else -1 for s in sequences])
    last = np.flatnonzero(kv_lens == known)
    sampled = sequences if len(last) == len(sequences) else [sequences[i] for i in last.tolist()]
    return HostBatch(
        num_tokens=lengths,
        kv_lens=kv_lens,
        input_ids=input_ids,
        positions=positions,
        kv_slots=block_tables[rows, positions // BLOCK_SIZE].astype(np.int64) * BLOCK_SIZE
        + positions % BLOCK_SIZE,
        block_tables=block_tables,
        spans=_spans(slots, ends),
        sampled=tuple(sampled),
        sampled_rows=ends[last] - 1,
        sampled_spans=_spans(slots[last], np.arange(1, len(last) + 1)),
        # A step in which everyone samples and computes one token is over with every prompt.
        scored=() if total == len(sampled) else scored_by(sequences, lengths),
        pooled=() if total == len(sampled) else pooled_by(sequences, lengths),
    )


def move(host: HostBatch, max_rank: int, last_ids: torch.Tensor) -> Batch:
    """Bring a step to the device.

    Args:
        host: the step.
        max_rank: largest rank of any adapter present.
        last_ids: [rows] int64 on the device, the tokens sampled by the step before.
    """
    count = len(host.num_tokens)
    starts = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(host.num_tokens, out=starts[1:])
    slots = token_slots(host.spans, len(host.input_ids))
    sampled_slots = slots if host.is_decode else token_slots(host.sampled_spans, len(host.sampled))
    ids, positions, kv_slots, sampled_rows, query_starts, seq_lens, block_tables, *adapters = (
        to_device(
            [
                host.input_ids,
                host.positions,
                host.kv_slots,
                host.sampled_rows,
                starts,
                host.kv_lens.astype(np.int32),
                host.block_tables,
                slots,
                sampled_slots,
            ],
            last_ids.device,
        )
    )

    def segments(spans: tuple[Span, ...], slots: torch.Tensor) -> LoRASegments | None:
        return LoRASegments(spans, slots, max_rank, ways_for(spans)) if spans else None

    return Batch(
        input_ids=resolve_token_ids(ids, last_ids) if (host.input_ids < 0).any() else ids,
        positions=positions,
        kv_slots=kv_slots,
        attention=AttentionMeta(
            query_starts=query_starts,
            seq_lens=seq_lens,
            block_tables=block_tables,
            query_lens=tuple(host.num_tokens.tolist()),
            kv_lens=tuple(host.kv_lens.tolist()),
        ).for_forward(),
        segments=segments(host.spans, adapters[0]),
        sampled_rows=None if host.is_decode else sampled_rows,
        sampled_segments=segments(host.sampled_spans, adapters[1]),
    )


def _spans(slots: np.ndarray, ends: np.ndarray) -> tuple[Span, ...]:
    """Runs of equal slots, of rows that end at `ends`; both [sequences], slots ascending."""
    with_adapter = int(np.searchsorted(slots, _NO_SLOT))
    if not with_adapter:
        return ()
    last = np.append(np.flatnonzero(np.diff(slots[:with_adapter])), with_adapter - 1)
    stops = ends[last].tolist()
    return tuple(zip(slots[last].tolist(), [0, *stops[:-1]], stops, strict=True))
