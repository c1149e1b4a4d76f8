"""Owns the launch constants of the LoRA kernels.

They are keyed by the number of tokens in the batch alone, which is also what names a captured graph: were they to
depend on how tokens spread over adapters, a neighbour would decide the order in which my sums are taken.
"""

from typing import NamedTuple

# Up to this many tokens there is a program per token; above, one per tile of tokens.
MOST_DECODE_TOKENS = 512
# Rank rows a decode program holds at a time.
DECODE_RANK = 16


class DecodeLaunch(NamedTuple):
    """block: columns of a rank row that one step reads; splits: most programs that share the sum over `in_features`."""

    block: int
    num_warps: int
    splits: int = 1


class RunShrink(NamedTuple):
    """For a program per adapter in a tile of tokens. block: columns of a rank row that one step reads; splits: as
    above."""

    block: int
    num_warps: int
    splits: int
    num_stages: int


class QkvLaunch(NamedTuple):
    """heads: of a slice, per program that has neither adapters nor a norm to apply; with adapters more than one costs
    (128 tokens, 128 adapters: 9.9 to 10.9 ms a step), without them one does (7.5 to 6.9)."""

    heads: int
    num_warps: int


class PrefillShrink(NamedTuple):
    """splits: programs that share the sum over `in_features`; tile: tokens of a program; block_rank: rank rows per
    slice, and block: columns of them, that one step reads."""

    splits: int
    tile: int
    block_rank: int
    block: int
    num_warps: int
    num_stages: int


class PrefillExpand(NamedTuple):
    """tile: tokens of a program; block_rank × block: the part of B that one step reads (a head, at qkv); blocks: steps
    of a program."""

    tile: int
    block_rank: int
    block: int
    blocks: int
    num_warps: int


class DecodeRegime(NamedTuple):
    """Constants for decode batches of at most `most_tokens` tokens."""

    most_tokens: int
    shrink: DecodeLaunch | RunShrink
    expand: DecodeLaunch
    qkv: QkvLaunch
    silu: DecodeLaunch


# Microseconds per layer of the best and of what was taken, shrink at all sites / expand at o and down / qkv / silu.
_DECODE = (
    # 1 token, 1 adapter: 8.6 / 3.4 / 1.9 / 3.3. 32 tokens, 1 adapter: 16.5 / 5.9 / 3.8 / 6.3 (6.4); 32 adapters:
    # 21.3 / 6.4 / 4.6 / 10.6. Without the sum split: 14.6 at 1 token.
    DecodeRegime(
        48,
        DecodeLaunch(512, 4, 32),
        DecodeLaunch(128, 1),
        QkvLaunch(1, 1),
        DecodeLaunch(256, 1),
    ),
    # 64 tokens, 64 adapters: 32.3 / 8.3 / 7.2 / 18.7.
    DecodeRegime(
        96,
        DecodeLaunch(512, 4, 8),
        DecodeLaunch(512, 2),
        QkvLaunch(4, 4),
        DecodeLaunch(256, 1),
    ),
    # 128 tokens, 128 adapters: 52.8 / 13.1 / 10.9 / 35.1; 32 adapters: 39.8 with blocks of 1024 / 8.1 / 8.4 / 21.0.
    # Shrink by a program per adapter and tile instead: with 16 / 32 / 64 / 128 adapters 23 / 29 / 39 / 69, per token
    # 33 / 36 / 39 / 51.
    DecodeRegime(
        128,
        DecodeLaunch(512, 4, 4),
        DecodeLaunch(512, 2),
        QkvLaunch(4, 4),
        DecodeLaunch(256, 1),
    ),
    # 256 tokens, 32 adapters: 33.8 (a program per token: 61.8) / 13.3 / 15.8 / 37.0; with 128 adapters 62 (72), with
    # 256 112 (93), of 512 tokens with 64 adapters 46 (117), with 512 190 (172). In 8 splits: 33, 69, 115, 53 and 210.
    DecodeRegime(
        MOST_DECODE_TOKENS,
        RunShrink(128, 2, 4, 4),
        DecodeLaunch(512, 2),
        QkvLaunch(4, 4),
        DecodeLaunch(256, 1),
    ),
)
# 2048 tokens of an 8B layer, 32 adapters of rank 16, H200, us per layer: shrink 53.5 (63 with one program per slice),
# o and down 10.2 each (14.8 with one block per program), silu 66.7 (114; 43.5 without adapters), qkv 19.3 (38; 8.9
# without). With larger tiles or blocks a thread holds too many values: silu takes 106 at 32 x 128, 127 at 64 x 128.
PREFILL_SHRINK = PrefillShrink(4, 32, 16, 128, 4, 4)
PREFILL_EXPAND = PrefillExpand(32, 16, 128, 4, 4)
PREFILL_SILU = PrefillExpand(32, 16, 64, 8, 4)
PREFILL_QKV = PrefillExpand(16, 16, 128, 8, 2)


def decode_constants(tokens: int) -> DecodeRegime:
    """The constants for a decode batch of `tokens` tokens."""
    return next(regime for regime in _DECODE if tokens <= regime.most_tokens)
