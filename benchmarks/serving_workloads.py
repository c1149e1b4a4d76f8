"""Owns the request sets that papers on multi-LoRA serving measured with, number for number, so that figures compare:
Punica's adapter popularities and request set, and S-LoRA's synthetic trace."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Popularity = Literal["identical", "distinct", "uniform", "skewed"]

_PUNICA_SEED = 0xABCDABCD987
_SKEW = 1.5


@dataclass(frozen=True, slots=True)
class Item:
    """One request: the number of its adapter, tokens of its prompt and of its answer, seconds after the start."""

    adapter: int
    prompt: int
    output: int
    at: float = 0.0


def group_sizes(popularity: Popularity, requests: int) -> list[int]:
    """How many of `requests` each adapter gets, by Punica's four popularities."""
    if popularity == "identical":
        return [requests]
    if popularity == "distinct":
        return [1] * requests
    if popularity == "uniform":
        groups = int(np.ceil(np.sqrt(requests)))
        size, left = divmod(requests, groups)
        return [size + (group < left) for group in range(groups)]
    sizes: list[int] = []
    while sum(sizes) + (size := int(np.floor(_SKEW ** len(sizes)))) < requests:
        sizes.append(size)
    sizes.append(requests - sum(sizes))
    return sorted(sizes, reverse=True)


def punica_lengths(requests: int, longest: int = 2048) -> list[tuple[int, int]]:
    """Prompt and output tokens of each request, together at most `longest`: short prompts, long answers."""
    rng = np.random.Generator(np.random.PCG64(seed=_PUNICA_SEED))
    lengths = []
    for _ in range(requests):
        prompt = float(min(max(18 * np.exp(0.8 * rng.standard_normal()) - 1, 1), longest - 2))
        total = max(float(rng.integers(0, longest)), prompt + 2)
        lengths.append((int(prompt), int(total - prompt)))  # cut off only here, as there
    return lengths


def punica(popularity: Popularity, requests: int, longest: int = 2048) -> list[Item]:
    """Punica's request set: all at hand from the start, adapters in shuffled order."""
    sizes = group_sizes(popularity, requests)
    adapters = np.repeat(np.arange(len(sizes)), sizes)
    np.random.Generator(np.random.PCG64(seed=_PUNICA_SEED)).shuffle(adapters)
    lengths = punica_lengths(requests, longest)
    return [
        Item(int(adapter), prompt, output)
        for adapter, (prompt, output) in zip(adapters, lengths, strict=True)
    ]


def slora(
    adapters: int, alpha: float, rate: float, cv: float, seconds: float, seed: int = 42
) -> list[Item]:
    """S-LoRA's synthetic trace.

    Args:
        adapters: how many there are; 0 means the base model alone and is drawn as one.
        alpha: of a power law over them, low numbers first; 1 is uniform, 0.1 gives a tenth of them 80 % of the traffic.
        rate: requests per second. cv: coefficient of variation of the gaps; 1 makes arrivals Poisson.
    """
    count = int(rate * seconds)
    # The legacy generator and this order of draws are part of the definition.
    rng = np.random.RandomState(seed)
    chosen = (rng.power(alpha, count) * max(adapters, 1)).astype(int)
    prompts = rng.randint(8, 512, count)
    outputs = rng.randint(8, 512, count)
    times = np.cumsum(rng.gamma(1 / cv**2, cv**2 / rate, count))
    return [
        Item(int(adapter), int(prompt), int(output), float(at))
        for adapter, prompt, output, at in zip(chosen, prompts, outputs, times, strict=True)
    ]
