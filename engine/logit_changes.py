"""Owns penalties, biases and minimum lengths: which logits of which rows change, and by how much."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loraplex.engine.sequence import Sequence
from loraplex.engine.token_counts import TokenCounts


def may_change_logits(sequence: Sequence) -> bool:
    """Whether the sequence's parameters change logits, now or ever."""
    params = sequence.request.params
    return bool(
        sequence.matcher or params.logit_bias or params.min_tokens or _has_penalties(sequence)
    )


class LogitChanges:
    """The changes of each step, as arrays for the device."""

    def __init__(self, eos_token_ids: tuple[int, ...]) -> None:
        self._eos_token_ids = eos_token_ids
        # Of the last step's sequences with penalties. One that was not in it is counted anew.
        self._counts: dict[Sequence, TokenCounts] = {}

    def apply_now(self, sequence: Sequence) -> bool:
        """Whether a sequence that may change logits does so for its next token."""
        params = sequence.request.params
        return bool(
            sequence.matcher
            or params.logit_bias
            or sequence.num_output < params.min_tokens
            or _has_penalties(sequence)
        )

    def stages(self, sequences: list[Sequence], vocab: int) -> Iterator[NDArray[np.int32]]:
        """Changes in the order in which they apply, none of them empty: penalties, biases, minimum lengths.

        Args:
            sequences: one per row of the logits.
            vocab: columns of the logits.

        Returns:
            Arrays [3, changes] of row × vocab + token, and the bits of the float32 factor and addend.
        """
        self._count(sequences)
        stages = (
            self._penalties(sequences, vocab),
            _biases(sequences, vocab),
            self._bans(sequences, vocab),
        )
        return (stage for stage in stages if stage.shape[1])

    def forget(self) -> None:
        """No sequence of this step has penalties."""
        self._counts = {}

    def _count(self, sequences: list[Sequence]) -> None:
        counts: dict[Sequence, TokenCounts] = {}
        for sequence in sequences:
            if _has_penalties(sequence):
                known = self._counts.get(sequence) or TokenCounts(sequence)
                known.update(sequence)
                counts[sequence] = known
        self._counts = counts

    def _penalties(self, sequences: list[Sequence], vocab: int) -> NDArray[np.int32]:
        rows = [row for row, sequence in enumerate(sequences) if sequence in self._counts]
        if not rows:
            return _pack([], [], [])
        counts = [self._counts[sequences[row]] for row in rows]
        params = [sequences[row].request.params for row in rows]
        lengths = [len(count.ids) for count in counts]

        def spread(values: list[float]) -> NDArray[np.float32]:
            return np.repeat(np.array(values, dtype=np.float32), lengths)

        generated = np.concatenate([count.outputs for count in counts])
        subtracted = spread([p.presence_penalty for p in params]) * (generated > 0)
        subtracted += spread([p.frequency_penalty for p in params]) * generated
        starts = np.repeat(np.array(rows, dtype=np.int32) * np.int32(vocab), lengths)
        return _pack(
            starts + np.concatenate([count.ids for count in counts]),
            spread([p.repetition_penalty for p in params]),
            -subtracted,
        )

    def _bans(self, sequences: list[Sequence], vocab: int) -> NDArray[np.int32]:
        """Of every token that would stop a sequence before its minimum length."""
        places: list[int] = []
        for row, sequence in enumerate(sequences):
            params = sequence.request.params
            if sequence.num_output < params.min_tokens:
                stops = params.stop_token_ids + (() if params.ignore_eos else self._eos_token_ids)
                places += [row * vocab + token for token in stops]
        return _pack(places, np.ones(len(places)), np.full(len(places), -np.inf))


def _has_penalties(sequence: Sequence) -> bool:
    params = sequence.request.params
    return bool(
        params.repetition_penalty != 1.0 or params.presence_penalty or params.frequency_penalty
    )


def _biases(sequences: list[Sequence], vocab: int) -> NDArray[np.int32]:
    places: list[int] = []
    addends: list[float] = []
    for row, sequence in enumerate(sequences):
        bias = sequence.request.params.logit_bias
        places += [row * vocab + token for token in bias]
        addends += bias.values()
    return _pack(places, np.ones(len(places)), addends)


def _pack(
    places: NDArray[np.int32] | list[int],
    factors: NDArray[np.floating] | list[float],
    addends: NDArray[np.floating] | list[float],
) -> NDArray[np.int32]:
    packed = np.empty((3, len(places)), dtype=np.int32)
    packed[0] = places
    packed[1:].view(np.float32)[:] = (factors, addends)
    return packed
