"""Owns what a batch's sampling parameters ask for, worked out once per composition of the batch: while the same
sequences decode together, a step loops over no rows but for the numbers that change."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loraplex.engine.sequence import Sequence
from loraplex.kernels.sampling.draws import Column

# Colder than this is the same as this: the runner-up's weight is zero in float32.
_COLDEST = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """The parameters of a batch, by row.

    Attributes:
        sequences: the batch.
        table: [rows, len(Column)] float64, complete but for the uniform numbers; None if all rows are greedy.
        seeds: [rows] uint64.
        cuts: whether a row has top_k, top_p or min_p.
    """

    sequences: tuple[Sequence, ...]
    table: NDArray[np.float64] | None
    seeds: NDArray[np.uint64]
    cuts: bool

    @classmethod
    def build(cls, sequences: tuple[Sequence, ...], vocab: int) -> "SamplingPlan":
        lines = [_line(sequence, vocab) for sequence in sequences]
        table = np.array(lines, dtype=np.float64).reshape(-1, len(Column))
        random = bool((table[:, Column.INVERSE_TEMPERATURE] > 0).any())
        cuts = (
            (table[:, Column.TOP_K] > 0)
            | (table[:, Column.TOP_P] < 1.0)
            | (table[:, Column.MIN_P] > 0)
        )
        seeds = np.array([sequence.seed for sequence in sequences], dtype=np.uint64)
        return cls(sequences, table if random else None, seeds, bool(cuts.any()))

    def draws(self) -> NDArray[np.float64] | None:
        """The table for the sequences' next tokens, a new array; None if all rows are greedy."""
        if self.table is None:
            return None
        table = self.table.copy()
        positions = [len(s.tokens) - len(s.request.prompt_ids) for s in self.sequences]
        table[:, Column.UNIFORM] = uniforms(self.seeds, np.array(positions, dtype=np.uint64))
        return table


def _line(sequence: Sequence, vocab: int) -> tuple[float, float, float, float, float]:
    params = sequence.request.params
    if params.temperature == 0.0:
        return (0.0, 0.0, 1.0, 0.0, 0.0)
    top_k = params.top_k if 0 < params.top_k < vocab else 0
    return (1.0 / max(params.temperature, _COLDEST), top_k, params.top_p, params.min_p, 0.0)


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1) from seeds and counters (SplitMix64, Steele, Lea and Flood 2014)."""
    z = seeds + (positions + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mantissas: NDArray[np.uint64] = (z ^ (z >> np.uint64(31))) >> np.uint64(11)
    return mantissas.astype(np.float64) * 2.0**-53
