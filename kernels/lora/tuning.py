"""Owns the launch constants of the LoRA kernels.

They are keyed by the number of tokens in the batch alone, which is also what names a captured graph: were they to
depend on how tokens spread over adapters, a neighbour would decide the order in which my sums are taken.

Each row carries the measurement that chose it, from benchmarks/tune_lora.py (benchmarks/results/tune_lora.jsonl): one
NVIDIA H200, 2026-11-22, 8B Llama shapes, rank 16, bfloat16, microseconds per layer (qkv, o, gate_up, down together).
"""

from typing import NamedTuple


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
    # Few tiles: the sum over in_features is split most. T=8: 1 adapter 13.2 + 11.5, 8 adapters 20.0 + 19.4.
    Regime(16, ShrinkLaunch(16, 16, 128, 4, 4), ExpandLaunch(16, 128, 4, 2)),
    # T=32 with 32 adapters: 29.7; 2 warps would give 28.8 but lose with few adapters. Expand: 33.2.
    Regime(48, ShrinkLaunch(8, 16, 128, 4, 4), ExpandLaunch(16, 256, 4, 2)),
    # Tiles alone fill the GPU. T=64 with 64 adapters: 40.5 + 56.8; T=128 with 128: 64.3 + 96.4.
    Regime(512, ShrinkLaunch(4, 16, 128, 2, 4), ExpandLaunch(16, 256, 4, 2)),
    # Prefill: many tiles of one adapter follow each other and find its rows in the L2 cache. Not swept yet.
    Regime(2**31, ShrinkLaunch(1, 16, 128, 4, 3), ExpandLaunch(32, 128, 4, 2)),
)


def launch_constants(tokens: int) -> Regime:
    """The constants for a batch of `tokens` tokens."""
    return next(regime for regime in _REGIMES if tokens <= regime.most_tokens)
