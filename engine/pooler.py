"""Owns vectors of prompts, for requests that ask: which hidden states a step gives for them, and pooling them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from loraplex.engine.sequence import Sequence
from loraplex.engine.transfer import to_device

# Hidden states of rows of the step behind the last norm, [rows, hidden size], from their numbers.
Norm = Callable[[torch.Tensor], torch.Tensor]


class Part(NamedTuple):
    """What a step adds to the vector of one sequence.

    Attributes:
        first, end: rows of the step's tokens whose states count.
        begins, ends: whether they are the first and the last that do.
        weight: number of states in the whole vector.
    """

    sequence: Sequence
    first: int
    end: int
    begins: bool
    ends: bool
    weight: int


def pooled_by(sequences: list[Sequence], lengths: np.ndarray) -> tuple[Part, ...]:
    """What a step gives for vectors.

    Args:
        sequences: of the step, in the order of their tokens.
        lengths: [sequences], tokens that each computes.
    """
    return tuple(_pooled_by(sequences, lengths.tolist()))


def _pooled_by(sequences: list[Sequence], lengths: list[int]) -> Iterator[Part]:
    end = 0
    for sequence, count in zip(sequences, lengths, strict=True):
        end += count
        if sequence.pooling is None:
            continue
        start = sequence.num_computed
        ends = start + count == sequence.num_prompt
        if sequence.pooling.method == "mean":
            yield Part(sequence, end - count, end, start == 0, ends, sequence.num_prompt)
        elif ends:
            yield Part(sequence, end - 1, end, begins=True, ends=True, weight=1)


class Vectors:
    """Vectors on their way to the host.

    Attributes:
        sequences: whose they are; all their tokens are computed.
    """

    def __init__(self, sequences: tuple[Sequence, ...], vectors: torch.Tensor) -> None:
        self.sequences = sequences
        self._copied = None
        self._vectors = vectors
        if vectors.is_cuda:
            self._vectors = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            self._vectors.copy_(vectors, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> Iterator[tuple[Sequence, bytes | None]]:
        """Each sequence with its vector, little-endian float32, or None if that holds anything but finite numbers;
        waits until they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        vectors = self._vectors.numpy().astype("<f4", copy=False)
        finite = np.isfinite(vectors).all(axis=1)
        for sequence, vector, fine in zip(self.sequences, vectors, finite, strict=True):
            yield sequence, vector.tobytes() if fine else None


def pool(parts: tuple[Part, ...], norm: Norm, device: torch.device) -> Vectors:
    """Queue the pooling of a step. Sums are in float32 and in the order of the tokens, so neighbours in the batch
    change nothing.

    Args:
        parts: at least one.
        norm: gives states of the step, whose forward pass has been queued.
        device: the model's.
    """
    done = [at for at, part in enumerate(parts) if part.ends]
    sequences = tuple(parts[at].sequence for at in done)
    wanted = [sequence.pooling is not None and sequence.pooling.normalize for sequence in sequences]
    rows, lengths, ended, weights, to_normalize = to_device(
        [
            np.concatenate([np.arange(part.first, part.end) for part in parts]),
            np.asarray([part.end - part.first for part in parts]),
            np.asarray(done, dtype=np.int64),
            np.asarray([parts[at].weight for at in done], dtype=np.int64),
            np.asarray(wanted, dtype=np.int64),
        ],
        device,
    )
    # The lengths are right: to check them would wait for the device.
    sums = torch.segment_reduce(norm(rows).float(), "sum", lengths=lengths, unsafe=True)
    for at, (sequence, _, _, begins, ends, _) in enumerate(parts):
        if not begins and sequence.state_sum is not None:
            sums[at] += sequence.state_sum
        sequence.state_sum = None if ends else sums[at].clone()
    vectors = sums[ended] / weights.unsqueeze(1)
    lengths_of = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    # A vector of zeros has no direction and stays what it is.
    unit = vectors / lengths_of.clamp_min(torch.finfo(torch.float32).tiny)
    return Vectors(sequences, torch.where(to_normalize.bool().unsqueeze(1), unit, vectors))
