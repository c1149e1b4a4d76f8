"""Owns which sizes lora_tax.py measures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        prompt, output: tokens per sequence in decode runs.
        mixes: (sequences, distinct adapters); base runs are added.
        rank_mixes: the same for the section `ranks`.
        chunk: prompt tokens per step.
        chunks: steps of a prefill run.
        short: prompt length that puts many adapters into one step.
        sequences: of the end-to-end section, which ends after `long_output` tokens.
    """

    prompt: int = 320
    output: int = 44
    mixes: tuple[tuple[int, int], ...] = (
        *((1, d) for d in (1,)),
        *((8, d) for d in (1, 8)),
        *((32, d) for d in (1, 4, 8, 32)),
        *((64, d) for d in (1, 8, 32, 64)),
        *((128, d) for d in (1, 8, 16, 32, 64, 128)),
        *((256, d) for d in (1, 8, 32, 64, 128)),
    )
    rank_mixes: tuple[tuple[int, int], ...] = ((32, 1), (32, 32), (128, 32))
    chunk: int = 2048
    chunks: int = 24
    short: int = 64
    sequences: int = 32
    long_output: int = 128
    repeats: int = 3


QUICK = Plan(
    mixes=((1, 1), (32, 1), (32, 4), (32, 32), (128, 16), (128, 32), (128, 128), (256, 32)),
    rank_mixes=((32, 32),),
    chunks=12,
    repeats=2,
)
TINY = Plan(
    prompt=12,
    output=8,
    mixes=((1, 1), (4, 2)),
    rank_mixes=((4, 4),),
    chunk=32,
    chunks=5,
    short=8,
    sequences=4,
    long_output=6,
    repeats=2,
)
