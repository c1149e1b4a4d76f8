"""Owns the two inputs every LoRA kernel reads beside its tensors: where adapters' rank rows lie in the
arena (`LoRATables`), and which tokens of a batch belong to which adapter (`LoRASegments`)."""

from dataclasses import dataclass, field

import torch

# Tokens per tile: one kernel program handles this many tokens of one adapter. 16 is the smallest M of a
# tensor-core dot, and at decode most adapters have fewer tokens than that.
TILE_TOKENS = 16
# Elements; 8 values of 16 bits are one load of a thread.
ROW_ALIGNMENT = 8


def cut_tiles(spans: tuple[tuple[int, int, int], ...]) -> list[tuple[int, int, int]]:
    """Cut (slot, first token, end token) spans into tiles of at most TILE_TOKENS tokens, in the same form."""
    return [
        (slot, start, min(start + TILE_TOKENS, stop))
        for slot, first, stop in spans
        for start in range(first, stop, TILE_TOKENS)
    ]


@dataclass(slots=True)
class LoRATables:
    """Where the rank rows of resident adapters lie.

    A *rank row* is one row of A (length `in_features`) or one row of Bᵀ (length `out_features`, already
    multiplied with the LoRA scale). Rows of adapter slot s and module m are entries
    `first .. first + rank` of `a_rows` and `b_rows`, with `(first, rank) = index[s, m]`; rank 0 means that the
    adapter leaves the module alone.

    Attributes:
        arena: [elements], the model's dtype; holds every rank row.
        a_rows: [rows] int64, element offset in `arena` of each row of A.
        b_rows: [rows] int64, element offset in `arena` of each row of Bᵀ.
        index: [slots, modules, 2] int32, (first entry, rank).
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
        first, rank = (int(v) for v in self.index[slot, module])
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


@dataclass(frozen=True, slots=True)
class LoRASegments:
    """Which tokens belong to which adapter. The engine orders a batch so that one adapter's tokens are adjacent;
    tokens of the base model belong to no segment.

    Attributes:
        spans: host copy, one (slot, first token, end token) per segment, ascending, not overlapping, slots distinct.
        tile_slot, tile_start, tile_end: [tiles] int32 on the device; at most TILE_TOKENS tokens of one adapter each.
        num_tiles: [1] int32 on the device; entries past it are stale (buffers may be larger than the batch needs).
        max_rank: largest rank of any module of the adapters present.
    """

    spans: tuple[tuple[int, int, int], ...]
    tile_slot: torch.Tensor
    tile_start: torch.Tensor
    tile_end: torch.Tensor
    num_tiles: torch.Tensor
    max_rank: int

    @classmethod
    def build(
        cls, spans: tuple[tuple[int, int, int], ...], max_rank: int, device: torch.device
    ) -> "LoRASegments":
        """Cut spans into tiles and move the tile list to `device` in one copy."""
        tiles = cut_tiles(spans)
        packed = torch.tensor([*zip(*tiles, strict=True)] or [[], [], []], dtype=torch.int32)
        packed = packed.to(device, non_blocking=True)
        count = torch.tensor([len(tiles)], dtype=torch.int32).to(device, non_blocking=True)
        return cls(spans, packed[0], packed[1], packed[2], count, max_rank)
