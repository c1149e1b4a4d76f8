"""Owns the two inputs every LoRA kernel reads beside its tensors: where adapters' rank rows lie in the
arena (`LoRATables`), and which tokens of a batch belong to which adapter (`LoRASegments`)."""

from dataclasses import dataclass, field

import numpy as np
import torch

# Elements; 8 values of 16 bits are one load of a thread.
ROW_ALIGNMENT = 8
# Programs that share the runs of a tile, where some tile of so many tokens holds more than a few of them. One H200, 8B
# shape, 544 tokens of which 32 are of 32 adapters: see docs/performance.md.
MANY_WAYS = 8
_TILE, _FEW_RUNS = 32, 4


@dataclass(slots=True)
class LoRATables:
    """Where the rank rows of resident adapters lie.

    A *rank row* is one row of A (length `in_features`) or one row of Bᵀ (length `out_features`, already
    multiplied with the LoRA scale). Rows of adapter slot s and module m are entries
    `first .. first + rank` of `a_rows` and `b_rows`, with `(first, rank, a_base, b_base) = index[s, m]`; rank 0 means
    that the adapter leaves the module alone. Most rows lie one after the other: then `a_base` or `b_base` is the offset
    of the first, which saves kernels a look into the row tables; it is -1 where a page border lies between them.

    Attributes:
        arena: [elements], the model's dtype; holds every rank row.
        a_rows: [rows] int64, element offset in `arena` of each row of A.
        b_rows: [rows] int64, element offset in `arena` of each row of Bᵀ.
        index: [slots, modules, 4] int64, (first entry, rank, a_base, b_base).
        aligned: every offset in use is a multiple of ROW_ALIGNMENT, which lets kernels read 16 bytes at a time.
    """

    arena: torch.Tensor
    a_rows: torch.Tensor
    b_rows: torch.Tensor
    index: torch.Tensor
    aligned: bool = False
    # CPU only: matrices the reference already cut out of the arena, by (slot, module, kind).
    _views: dict[tuple[int, int, str], torch.Tensor] = field(default_factory=dict)

    def matrix_a(self, slot: int, module: int, in_features: int) -> torch.Tensor:
        """A of one module as [rank, in_features]; a view of the arena where its rows are adjacent."""
        return self._matrix(slot, module, in_features, "a", self.a_rows)

    def matrix_b(self, slot: int, module: int, out_features: int) -> torch.Tensor:
        """Scaled Bᵀ of one module as [rank, out_features]; a view where its rows are adjacent."""
        return self._matrix(slot, module, out_features, "b", self.b_rows)

    def _matrix(
        self, slot: int, module: int, length: int, kind: str, rows: torch.Tensor
    ) -> torch.Tensor:
        key = (slot, module, kind)
        cached = self._views.get(key)
        if cached is not None:
            return cached
        first, rank = (int(v) for v in self.index[slot, module, :2])
        starts = rows[first : first + rank]
        steps = starts[1:] - starts[:-1]
        if rank and bool((steps == length).all()):
            start = int(starts[0])
            matrix = self.arena[start : start + rank * length].view(rank, length)
        else:
            matrix = self.arena[starts[:, None] + torch.arange(length, device=starts.device)]
        self._views[key] = matrix
        return matrix

    def forget(self, slot: int) -> None:
        """Drop what is cached about a slot, and every stack of several; call whenever its rows move or change."""
        for key in [k for k in self._views if k[0] == slot or k[0] < 0]:
            del self._views[key]


def adjacent_base(offsets: np.ndarray, length: int) -> int:
    """The first of the rows' offsets if they lie one after the other, each `length` elements long, else -1."""
    if not len(offsets):
        return 0
    return int(offsets[0]) if (np.diff(offsets) == length).all() else -1


@dataclass(frozen=True, slots=True)
class LoRASegments:
    """Which tokens belong to which adapter. The engine orders a batch so that one adapter's tokens are adjacent, which
    is what makes the kernels fast, not what makes them right.

    Attributes:
        spans: host copy, one (slot, first token, end token) per segment, ascending, not overlapping, slots distinct.
        token_slots: [tokens] int32 on the device, each token's adapter slot, -1 for the base model.
        max_rank: largest rank of any module of the adapters present.
        ways: programs that share a tile's runs in the kernels for many tokens; the result does not depend on it.
    """

    spans: tuple[tuple[int, int, int], ...]
    token_slots: torch.Tensor
    max_rank: int
    ways: int = 1

    @classmethod
    def build(
        cls,
        spans: tuple[tuple[int, int, int], ...],
        num_tokens: int,
        max_rank: int,
        device: torch.device,
    ) -> "LoRASegments":
        """Spread spans over their tokens."""
        return cls(spans, torch.from_numpy(token_slots(spans, num_tokens)).to(device), max_rank)


def ways_for(spans: tuple[tuple[int, int, int], ...]) -> int:
    """`LoRASegments.ways` for a batch of more tokens than decode kernels take.

    A tile of tokens holds one or two runs where prompts are computed, but as many as tokens where sequences of many
    adapters decode beside them, which one program would go through one after the other.
    """
    starts = np.array([start for _, start, _ in spans], dtype=np.int64)
    crowded = starts[_FEW_RUNS:] - starts[:-_FEW_RUNS] < _TILE
    return MANY_WAYS if crowded.any() else 1


def token_slots(spans: tuple[tuple[int, int, int], ...], num_tokens: int) -> np.ndarray:
    """[tokens] int32: each token's slot, -1 where no span has it."""
    slots = np.full(num_tokens, -1, dtype=np.int32)
    for slot, start, stop in spans:
        slots[start:stop] = slot
    return slots
