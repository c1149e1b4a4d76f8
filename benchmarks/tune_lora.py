"""Sweeps the launch constants of the LoRA kernels on a GPU; prints the fastest per regime for kernels/lora/tuning.py.

Four sites of an 8B Llama layer, rank 16, bfloat16. Each timing replays a CUDA graph over enough copies of the weights
that they do not stay in the L2 cache.

    python benchmarks/tune_lora.py
"""

import itertools
import statistics
from collections.abc import Callable

import torch
from results_file import record

from loraplex.kernels.lora import expand as expand_module
from loraplex.kernels.lora import shrink as shrink_module
from loraplex.kernels.lora.tables import LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import ExpandLaunch, Regime, ShrinkLaunch

RANK = 16
SITES = {
    "qkv": (4096, (4096, 1024, 1024)),
    "o": (4096, (4096,)),
    "gate_up": (4096, (14336, 14336)),
    "down": (14336, (4096,)),
}
REGIMES = (
    (1, 1),
    (8, 1),
    (8, 8),
    (32, 1),
    (32, 4),
    (32, 32),
    (64, 64),
    (128, 16),
    (128, 128),
    (256, 32),
)
SHRINKS = [
    ShrinkLaunch(splits, 16, block, warps, stages)
    for splits, block, warps, stages in itertools.product(
        (1, 2, 4, 8, 16), (128, 256, 512), (2, 4, 8), (2, 4)
    )
    if block * stages <= 1024
]
EXPANDS = [
    ExpandLaunch(16, block, warps, stages)
    for block, warps, stages in itertools.product((64, 128, 256, 512), (2, 4, 8), (1, 2))
]
EXPAND_SPLITS = (1, 4, 8)
L2_BYTES = 60 * 2**20


class Site:
    """One site's tensors for one regime: copies of weights to rotate over, tokens of D adapters."""

    def __init__(self, name: str, tokens: int, adapters: int) -> None:
        self.in_features, self.widths = SITES[name]
        slices = len(self.widths)
        per_adapter = RANK * (self.in_features * slices + sum(self.widths))
        self.copies = max(2, min(64, 2 * L2_BYTES // (2 * per_adapter * adapters) + 1))
        count = self.copies * adapters
        arena = torch.randn(count * per_adapter, device="cuda", dtype=torch.bfloat16)
        starts = torch.arange(count)[:, None] * per_adapter
        a = starts + torch.arange(slices * RANK)[None, :] * self.in_features
        offsets = [
            RANK * (self.in_features * slices + sum(self.widths[:part])) + row * self.widths[part]
            for part in range(slices)
            for row in range(RANK)
        ]
        b = starts + torch.tensor(offsets)[None, :]
        index = torch.zeros(count, slices, 2, dtype=torch.int32)
        index[:, :, 0] = torch.arange(count * slices).view(count, slices) * RANK
        index[:, :, 1] = RANK
        self.tables = LoRATables(
            arena, a.flatten().cuda(), b.flatten().cuda(), index.cuda(), aligned=True
        )
        each = tokens // adapters
        self.segments = [
            LoRASegments.build(
                tuple((copy * adapters + i, i * each, (i + 1) * each) for i in range(adapters)),
                RANK,
                torch.device("cuda"),
            )
            for copy in range(self.copies)
        ]
        self.x = torch.randn(tokens, self.in_features, device="cuda", dtype=torch.bfloat16)
        self.y = torch.randn(tokens, sum(self.widths), device="cuda", dtype=torch.bfloat16)
        self.floor_us = adapters * per_adapter * 2 / 4.3e6

    def shrink(self, copy: int) -> torch.Tensor:
        return shrink_module.lora_shrink_triton(
            self.x, self.tables, self.segments[copy], 0, len(self.widths)
        )

    def expand(self, copy: int, s: torch.Tensor) -> None:
        expand_module.lora_expand_triton(
            self.y, s, self.tables, self.segments[copy], 0, self.widths
        )


def replay_us(launch: Callable[[int], object], copies: int) -> float:
    """Median microseconds of one launch inside a graph of many."""
    launches = max(copies, 24)
    launch(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(launches):
            launch(number % copies)
    times = []
    for _ in range(5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end) / launches)
    return statistics.median(times)


def use(shrink: ShrinkLaunch, expand: ExpandLaunch) -> None:
    """Make both launchers take these constants for any number of tokens."""
    regime = Regime(2**31, shrink, expand)
    shrink_module.launch_constants = expand_module.launch_constants = lambda _: regime


def main() -> None:
    with torch.inference_mode():
        for tokens, adapters in REGIMES:
            sites = {name: Site(name, tokens, adapters) for name in SITES}
            best_shrink = rank_shrinks(sites)
            best_expand = rank_expands(sites)
            for what, best in (("shrink", best_shrink), ("expand", best_expand)):
                for total, label, parts in best[:3]:
                    record(
                        "tune_lora.jsonl",
                        {
                            "op": what,
                            "tokens": tokens,
                            "adapters": adapters,
                            "constants": label,
                            "us_per_layer": round(total, 2),
                            "us_by_site": parts,
                            "floor_us_both": round(sum(s.floor_us for s in sites.values()), 2),
                        },
                    )


def rank_shrinks(sites: dict[str, Site]) -> list[tuple[float, str, dict[str, float]]]:
    results = []
    for constants in SHRINKS:
        use(constants, EXPANDS[0])
        parts = {
            name: round(replay_us(site.shrink, site.copies), 2) for name, site in sites.items()
        }
        results.append((sum(parts.values()), str(tuple(constants)), parts))
    return sorted(results)


def rank_expands(sites: dict[str, Site]) -> list[tuple[float, str, dict[str, float]]]:
    results = []
    for constants, splits in itertools.product(EXPANDS, EXPAND_SPLITS):
        use(ShrinkLaunch(splits, 16, 256, 4, 2), constants)
        parts = {}
        for name, site in sites.items():
            s = site.shrink(0)
            parts[name] = round(
                replay_us(lambda copy, site=site, s=s: site.expand(copy, s), site.copies), 2
            )
        results.append((sum(parts.values()), f"{tuple(constants)} after {splits} splits", parts))
    return sorted(results)


if __name__ == "__main__":
    main()
