"""Owns log-probabilities of prompt tokens, for requests that ask: which of them a step gives, and computing them."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from loraplex.engine.request import TokenLogprob
from loraplex.engine.sequence import Sequence
from loraplex.engine.transfer import to_device
from loraplex.kernels.lora.tables import LoRASegments
from loraplex.kernels.sampling.top_logprobs import TopLogprobs, top_logprobs

# Rows whose logits are there at the same time: a prompt of 8,192 tokens would fill gigabytes at once. As many as a step
# samples by default, for which memory is planned anyway (`step_memory`).
SLICE_ROWS = 256

# Logits of rows of the step, [rows, vocabulary], from their numbers and from which of them use which adapter.
Head = Callable[[torch.Tensor, LoRASegments | None], torch.Tensor]


class Scored(NamedTuple):
    """What one sequence wants of a step.

    Attributes:
        known: where its log-probabilities are gathered.
        first_row: of the step's tokens; the logits of each row tell the log-probability of the token behind it.
        targets: those next tokens, one per row.
        slot: the adapter's, None for the base model.
        most: how many of the likeliest tokens are asked for.
    """

    known: list[TokenLogprob]
    first_row: int
    targets: list[int]
    slot: int | None
    most: int


def scored_by(sequences: list[Sequence], lengths: np.ndarray) -> tuple[Scored, ...]:
    """What a step can tell of prompts.

    Args:
        sequences: of the step, in the order of their tokens.
        lengths: [sequences], tokens that each computes.
    """
    return tuple(_scored_by(sequences, lengths.tolist()))


def _scored_by(sequences: list[Sequence], lengths: list[int]) -> Iterator[Scored]:
    row = 0
    for sequence, count in zip(sequences, lengths, strict=True):
        most, known = sequence.request.params.prompt_logprobs, sequence.prompt_logprobs
        if most is not None and known is not None:
            start = sequence.num_computed
            # After a preemption some are known already; the last token's logits are those of the first answer token.
            first = max(start, len(known))
            end = min(start + count, sequence.num_prompt - 1)
            if first < end:
                targets = sequence.tokens[first + 1 : end + 1]
                yield Scored(known, row + first - start, targets, sequence.slot, most)
        row += count


class PromptScores:
    """Log-probabilities on their way to the host."""

    def __init__(self, scored: tuple[Scored, ...], result: TopLogprobs) -> None:
        self._scored = scored
        self._result = TopLogprobs(*map(_to_host, result))
        self._copied = torch.cuda.Event() if result.own.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def hand_over(self) -> None:
        """Wait until they are there, and add them to those their sequences have."""
        if self._copied is not None:
            self._copied.synchronize()
        rows = zip(*(part.tolist() for part in self._result), strict=True)
        for scored in self._scored:
            for token, (own, values, ids) in zip(scored.targets, rows, strict=False):
                top = tuple(zip(ids[: scored.most], values[: scored.most], strict=True))
                scored.known.append(TokenLogprob(token, own, top))


def score(
    scored: tuple[Scored, ...], head: Head, max_rank: int, device: torch.device
) -> PromptScores:
    """Queue the log-probabilities of a step's prompt tokens, in slices of SLICE_ROWS rows.

    Args:
        scored: at least one, in the order of the step's tokens.
        head: gives logits of the step, whose forward pass has been queued.
        max_rank: largest rank of any adapter present.
        device: the model's.
    """
    counts = [len(each.targets) for each in scored]
    rows = np.concatenate([each.first_row + np.arange(len(each.targets)) for each in scored])
    targets = np.concatenate([np.asarray(each.targets, dtype=np.int64) for each in scored])
    slots = np.repeat([-1 if each.slot is None else each.slot for each in scored], counts)
    arrays: list[np.ndarray] = [rows, targets, slots.astype(np.int32)]
    on_device = to_device(arrays, device)
    most = max(each.most for each in scored)
    parts = []
    for start in range(0, len(rows), SLICE_ROWS):
        part = slice(start, start + SLICE_ROWS)
        rows_here, targets_here, slots_here = (array[part] for array in on_device)
        spans = _spans(slots[part])
        segments = LoRASegments(spans, slots_here, max_rank) if spans else None
        logits = head(rows_here, segments)
        parts.append(top_logprobs(logits, targets_here, min(most, logits.shape[-1])))
    return PromptScores(
        scored, TopLogprobs(*(torch.cat(column) for column in zip(*parts, strict=True)))
    )


def _spans(slots: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Runs of equal slots, but for those of the base model (-1)."""
    edges = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]
    runs = itertools.pairwise(edges)
    return tuple((int(slots[first]), first, end) for first, end in runs if slots[first] >= 0)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
