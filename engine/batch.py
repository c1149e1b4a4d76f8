"""Owns the tensors of one step: what `Decoder.forward` reads beside the weights."""

from dataclasses import dataclass

import numpy as np
import torch

from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.scheduler import Scheduled
from loraplex.engine.sequence import Sequence
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.lora.tables import LoRASegments

Span = tuple[int, int, int]  # (adapter slot, first row, end row)


@dataclass(frozen=True, slots=True)
class HostBatch:
    """A step laid out on the host. Tokens of one sequence are adjacent, and so are the sequences of one adapter;
    rows of the base model come last.

    Attributes:
        sequences: in the order of their tokens.
        num_tokens: per sequence, tokens computed in this step.
        kv_lens: per sequence, tokens in the KV cache after the step.
        input_ids, positions: [tokens] int64.
        kv_slots: [tokens] int64, block × BLOCK_SIZE + offset where each token's K and V are written.
        query_starts: [sequences + 1] int32, first token of each sequence.
        block_tables: [sequences, most blocks] int32.
        spans: which tokens use which adapter.
        sampled: sequences whose next token is sampled, in order of their rows in the logits.
        sampled_rows: [sampled] int64, each one's last token.
        sampled_spans: like `spans`, over the rows of the logits.
        max_rank: largest rank of any adapter present, 0 if there is none.
    """

    sequences: tuple[Sequence, ...]
    num_tokens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    input_ids: np.ndarray
    positions: np.ndarray
    kv_slots: np.ndarray
    query_starts: np.ndarray
    block_tables: np.ndarray
    spans: tuple[Span, ...]
    sampled: tuple[Sequence, ...]
    sampled_rows: np.ndarray
    sampled_spans: tuple[Span, ...]
    max_rank: int

    @property
    def is_decode(self) -> bool:
        """Whether every sequence computes one token and samples the next."""
        return len(self.sampled) == len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """A step on the device; tensors as in `HostBatch`. `segments` and `sampled_segments` say which tokens, and which
    rows of the logits, use which adapter; None if none does."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    attention: AttentionMeta
    segments: LoRASegments | None
    sampled_rows: torch.Tensor
    sampled_segments: LoRASegments | None


def lay_out(scheduled: list[Scheduled], max_ranks: dict[int, int]) -> HostBatch:
    """Arrange a schedule.

    Args:
        scheduled: at least one sequence, each holding blocks for the tokens it computes.
        max_ranks: largest rank of each adapter slot in use.
    """
    ordered = sorted(
        scheduled, key=lambda item: (item.sequence.slot is None, item.sequence.slot or 0)
    )
    sequences = tuple(item.sequence for item in ordered)
    counts = tuple(item.num_tokens for item in ordered)
    ids: list[int] = []
    sampled: list[Sequence] = []
    sampled_rows: list[int] = []
    tables = np.zeros((len(ordered), max(len(s.blocks) for s in sequences)), dtype=np.int32)
    for row, (sequence, count) in enumerate(ordered):
        start, end = sequence.num_computed, sequence.num_computed + count
        tables[row, : len(sequence.blocks)] = sequence.blocks
        ids += sequence.tokens[start:end] if count > 1 else (sequence.tokens[start],)
        if end == len(sequence.tokens):
            sampled.append(sequence)
            sampled_rows.append(len(ids) - 1)

    lengths = np.asarray(counts)
    computed = np.asarray([s.num_computed for s in sequences])
    query_starts = np.zeros(len(ordered) + 1, dtype=np.int32)
    np.cumsum(lengths, out=query_starts[1:])
    rows = np.repeat(np.arange(len(ordered)), lengths)
    positions = np.arange(len(ids)) - query_starts[rows] + computed[rows]
    blocks = tables[rows, positions // BLOCK_SIZE].astype(np.int64)
    spans = _spans(sequences, counts)
    return HostBatch(
        sequences=sequences,
        num_tokens=counts,
        kv_lens=tuple((computed + lengths).tolist()),
        input_ids=np.asarray(ids, dtype=np.int64),
        positions=positions,
        kv_slots=blocks * BLOCK_SIZE + positions % BLOCK_SIZE,
        query_starts=query_starts,
        block_tables=tables,
        spans=spans,
        sampled=tuple(sampled),
        sampled_rows=np.asarray(sampled_rows, dtype=np.int64),
        sampled_spans=_spans(tuple(sampled), (1,) * len(sampled)),
        max_rank=max((max_ranks[slot] for slot, _, _ in spans), default=0),
    )


def to_device(host: HostBatch, device: torch.device) -> Batch:
    """Copy a step to the device."""

    def move(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    def segments(spans: tuple[Span, ...]) -> LoRASegments | None:
        return LoRASegments.build(spans, host.max_rank, device) if spans else None

    return Batch(
        input_ids=move(host.input_ids),
        positions=move(host.positions),
        kv_slots=move(host.kv_slots),
        attention=AttentionMeta(
            query_starts=move(host.query_starts),
            seq_lens=move(np.asarray(host.kv_lens, dtype=np.int32)),
            block_tables=move(host.block_tables),
            query_lens=host.num_tokens,
            kv_lens=host.kv_lens,
        ),
        segments=segments(host.spans),
        sampled_rows=move(host.sampled_rows),
        sampled_segments=segments(host.sampled_spans),
    )


def _spans(sequences: tuple[Sequence, ...], counts: tuple[int, ...]) -> tuple[Span, ...]:
    spans: list[Span] = []
    at = 0
    for sequence, count in zip(sequences, counts, strict=True):
        if sequence.slot is None:  # base rows come last
            break
        if spans and spans[-1][0] == sequence.slot:
            spans[-1] = (sequence.slot, spans[-1][1], at + count)
        else:
            spans.append((sequence.slot, at, at + count))
        at += count
    return tuple(spans)
