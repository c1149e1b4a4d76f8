"""Owns which projections run as a kernel of ours, which one, and its block sizes: functions of shapes alone.

Measured on one NVIDIA H200, 2026-11-22, 8B Llama shapes, bfloat16, torch 2.11, triton 3.6: microseconds of a layer of
two norms, qkv, one small kernel, o, gate_up, silu, down (8 layers' weights in one graph) whose small kernels are
launched as early as these (programmatic dependent launch). Floor 101. In brackets: four small kernels in place of one.

    tokens | all cuBLAS    | all tiles     | best split-free, below
    1      | 124.4 (127.2) | 117.6 (120.6) | 114.0 (116.4)
    8      | 126.3 (129.2) | 118.4 (121.3) | 113.8 (116.1)
    32     | 132.5 (135.8) | 124.5 (125.2) | 121.4 (122.4)
    64     | 135.5 (138.7) | 135.4 (138.2) | 132.4
    128    | 146.6 (150.3) | 151.2 (154.0) | 143.0 (146)

Where the small kernels wait for each other's end the rings lose their lead: 126.5 at 8 tokens, 128.6 at 32, 137.8 at
64, 145.5 at 128. A head of 128256 rows alone, cuBLAS / ours: 250.5 / 238.9 at 8 tokens, 267.5 / 245.5 at 32,
284.4 / 254.3 at 64, 276.4 / 274.5 at 128 (floor 244 at 4.3 TB/s).

What did not help: asking the L2 cache for the next weights during the small kernels, by extra programs in them or on
a side stream, 4 to 16 MB at a time (8 tokens, cuBLAS 128.2: 128.2 to 133.3; tiles 122.4: 122.2 to 129.4), or for each
program's own rows before it waits (117.2: 118.4 to 124.6); splitting the sum (no faster up to 32 tokens, 3.3 us on down
at 64); evict-first loads; a second kernel to sum partials.
"""

from typing import NamedTuple

from loraplex.kernels.language import power_of_two

# What a program may take of a Hopper multiprocessor's shared memory.
SHARED_MEMORY = 227 * 1024


class Launch(NamedTuple):
    """ring: whether W streams through the ring of ring.py or as in tile.py; block_out × block_in: the tile of W one
    step reads; stages: tiles in shared memory."""

    ring: bool
    block_out: int
    block_in: int
    stages: int
    num_warps: int


# (most tokens, {(out_features, in_features): launch or None for cuBLAS}). Times: as above, with this projection by
# the best ring / the best tile / cuBLAS, the others being at their best.
_MEASURED: tuple[tuple[int, dict[tuple[int, int], Launch | None]], ...] = (
    (
        16,
        {
            (6144, 4096): Launch(True, 64, 128, 11, 4),  # 117.2 / 118.8 / 120.5
            (4096, 4096): Launch(True, 32, 256, 4, 4),  # 115.4 / 117.5 / 117.4
            (28672, 4096): Launch(True, 64, 128, 5, 4),  # 113.7 / 115.5 / 123.8
            (4096, 14336): Launch(True, 32, 256, 9, 4),  # 113.6 / 115.3 / 118.3
            (128256, 4096): Launch(True, 128, 128, 3, 8),  # alone 238.9 / 239.2 / 250.5
        },
    ),
    (
        32,
        {
            (6144, 4096): Launch(True, 64, 128, 9, 4),  # 120.0 / 121.3 / 122.8
            (4096, 4096): Launch(False, 32, 256, 6, 4),  # 120.2 / 119.9 / 122.4
            (28672, 4096): Launch(True, 64, 128, 4, 4),  # 121.3 / 124.9 / 124.6
            (4096, 14336): Launch(False, 32, 256, 6, 4),  # 120.4 / 120.4 / 123.4
            (128256, 4096): Launch(True, 64, 128, 3, 4),  # alone 245.5 / 246.6 / 267.5
        },
    ),
    (
        64,
        {
            (6144, 4096): Launch(True, 64, 128, 7, 4),  # 129.5 / 131.9 / 132.1
            (4096, 4096): None,  # 130.0 / 130.9 / 129.6
            (28672, 4096): Launch(True, 128, 128, 4, 8),  # 129.2 / 131.8 / 137.0
            (4096, 14336): None,  # only with the sum split: 129.1 / 131.0 / 132.4
            (128256, 4096): Launch(True, 128, 128, 4, 8),  # alone 254.3 / 254.9 / 284.4
        },
    ),
    (
        128,
        {
            (6144, 4096): Launch(True, 64, 64, 9, 4),  # 143.1 / 144.0 / 144.3
            (4096, 4096): None,  # 147.7 / 145.6 / 142.7
            (28672, 4096): Launch(True, 128, 64, 3, 4),  # 143.0 / 144.1 / 145.7
            (4096, 14336): None,  # 145.8 / 144.5 / 142.8
            (128256, 4096): None,  # alone 274.5 / 275.2 / 276.4: not worth a kernel
        },
    ),
)
# Programs below which a multiprocessor or more would have no work.
_LEAST_PROGRAMS = 120


def launch_constants(tokens: int, out_features: int, in_features: int) -> Launch | None:
    """How the projection of `tokens` rows by W [out_features, in_features] is launched; None: by cuBLAS."""
    for most_tokens, measured in _MEASURED:
        if tokens <= most_tokens:
            shape = (out_features, in_features)
            return measured[shape] if shape in measured else _like_measured(tokens, shape)
    return None


def shared_bytes(launch: Launch, tokens: int) -> int:
    """Shared memory of a program: the tiles of W and x, and the ring's barriers."""
    rows = launch.block_out + max(16, power_of_two(tokens))
    return launch.stages * (rows * launch.block_in * 2 + 8)


def _like_measured(tokens: int, shape: tuple[int, int]) -> Launch | None:
    """The launch of the measured shape that gives as much work to as many programs."""
    out_features, in_features = shape
    if in_features < 1024 or out_features < 32 * _LEAST_PROGRAMS:
        return None
    if out_features >= 64 * 3 * _LEAST_PROGRAMS:
        alike = (28672, 4096)
    elif out_features >= 6144:
        alike = (6144, 4096)
    else:
        alike = (4096, 4096 if in_features < 8192 else 14336)
    return next(measured for most, measured in _MEASURED if tokens <= most)[alike]
