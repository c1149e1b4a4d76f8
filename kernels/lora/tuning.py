"""Owns the launch constants of the LoRA kernels.

They are keyed by the number of tokens in the batch alone, which is also what names a captured graph: were they to
depend on how tokens spread over adapters, a neighbour would decide the order in which my sums are taken.

Every row must carry the measurement that chose it (GPU, shapes, gain). None has one yet: these are first guesses.
"""

from typing import NamedTuple

# Elements; rank rows whose offsets in the arena are all multiples of it are read 16 bytes at a time (8 values of 16
# bits). Rows may lie anywhere, and do when a model's widths are odd; those are read slower.
ROW_ALIGNMENT = 8


class ShrinkLaunch(NamedTuple):
    """splits: programs that share the sum over `in_features`; block_rank × block_in: the tile of A one step reads."""

    splits: int
    block_rank: int
    block_in: int
    num_warps: int
    num_stages: int


class ExpandLaunch(NamedTuple):
    """block_rank × block_out: the tile of B one step reads."""

    block_rank: int
    block_out: int
    num_warps: int
    num_stages: int


class Regime(NamedTuple):
    """Constants for batches of at most `most_tokens` tokens."""

    most_tokens: int
    shrink: ShrinkLaunch
    expand: ExpandLaunch


_REGIMES = (
    # Decode, few tokens: too few tiles to fill a GPU, so the sum over in_features is split most. Untuned.
    Regime(32, ShrinkLaunch(8, 16, 256, 4, 2), ExpandLaunch(16, 128, 4, 2)),
    # Decode, many tokens: tiles alone fill the GPU. Untuned.
    Regime(256, ShrinkLaunch(4, 16, 256, 4, 2), ExpandLaunch(16, 128, 4, 2)),
    # Prefill: many tiles of one adapter follow each other and find its rows in the L2 cache. Untuned.
    Regime(2**31, ShrinkLaunch(1, 16, 128, 4, 3), ExpandLaunch(32, 128, 4, 2)),
)


def launch_constants(tokens: int) -> Regime:
    """The constants for a batch of `tokens` tokens."""
    return next(regime for regime in _REGIMES if tokens <= regime.most_tokens)
