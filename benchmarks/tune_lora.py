"""Sweeps the launch constants of the LoRA kernels on a GPU, for kernels/lora/tuning.py, and measures what adapters
add to a decoder layer.

An 8B Llama layer, rank 16 on all linears, bfloat16. Timings replay CUDA graphs over enough copies of the weights that
they do not stay in the L2 cache.

    python benchmarks/tune_lora.py [--only layer] [--regimes 1,1 32,32]
"""

import argparse
import itertools
import time
from collections.abc import Iterator

import torch
from replay import L2_BYTES, captured_us
from results_file import record

from loraplex.kernels import activation, prefill_silu
from loraplex.kernels.activation import silu_mul
from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.linear import linear as base_linear
from loraplex.kernels.lora import expand, prefill_expand, prefill_shrink, shrink, tuning
from loraplex.kernels.lora.apply import LoRADelta, lora_linear, lora_linear_deferred
from loraplex.kernels.lora.tables import LoRASegments, LoRATables
from loraplex.kernels.lora.tuning import (
    MOST_DECODE_TOKENS,
    DecodeLaunch,
    DecodeRegime,
    PrefillExpand,
    PrefillShrink,
    QkvLaunch,
    RunShrink,
)
from loraplex.kernels.norm import add_rms_norm
from loraplex.kernels.qkv import qkv_to_cache, to_cache

RANK = 16
HIDDEN, INTER, HEADS, KV_HEADS, HEAD_DIM = 4096, 14336, 32, 8, 128
SITES = {
    "qkv": (HIDDEN, (4096, 1024, 1024)),
    "o": (HIDDEN, (HIDDEN,)),
    "gate_up": (HIDDEN, (INTER, INTER)),
    "down": (INTER, (HIDDEN,)),
}
REGIMES = (
    (1, 1), (8, 1), (8, 8), (32, 1), (32, 4), (32, 32), (64, 64),
    (128, 16), (128, 32), (128, 128), (256, 32), (2048, 1), (2048, 32),
)  # fmt: skip
LAYERS = 6
BANDWIDTH = 4.3e6  # bytes per microsecond


Launch = DecodeLaunch | RunShrink | QkvLaunch | PrefillShrink | PrefillExpand


def variants(tokens: int) -> Iterator[tuple[str, Launch]]:
    """What is tried for each kernel."""
    if tokens <= MOST_DECODE_TOKENS:
        for block, warps, splits in itertools.product((512, 1024), (2, 4, 8), (4, 8, 32)):
            yield "shrink", DecodeLaunch(block, warps, splits)
        for (block, warps), splits in itertools.product(
            ((128, 1), (128, 2), (256, 2), (256, 4)), (4, 8, 16, 32)
        ):
            yield "shrink", RunShrink(block, warps, splits, 4)
        widths = ((64, 1), (128, 1), (256, 1), (256, 2), (512, 2))
        for op, (block, warps) in itertools.product(("expand", "silu"), widths):
            yield op, DecodeLaunch(block, warps)
        for heads, warps in ((1, 1), (2, 2), (4, 2), (4, 4)):
            yield "qkv", QkvLaunch(heads, warps)
        return
    for splits, tile, warps, stages in itertools.product((2, 4), (32, 64), (4, 8), (3, 4)):
        yield "shrink", PrefillShrink(splits, tile, 16, 128, warps, stages)
    for op, tile, block, blocks in itertools.product(
        ("expand", "silu"), (16, 32), (64, 128), (4, 8)
    ):
        yield op, PrefillExpand(tile, 16, block, blocks, 4)
    for tile, blocks, warps in itertools.product((16, 32), (4, 8), (2, 4)):
        yield "qkv", PrefillExpand(tile, 16, 128, blocks, warps)


OF_SITE = {"qkv": "qkv", "o": "expand", "gate_up": "silu", "down": "expand"}
PREFILL = {
    "shrink": prefill_shrink,
    "expand": prefill_expand,
    "silu": prefill_silu,
    "qkv": to_cache,
}


class Layer:
    """Tensors of several layers for one regime: base weights and D adapters in each."""

    def __init__(self, tokens: int, adapters: int, layers: int) -> None:
        self.tokens, self.layers = tokens, layers
        modules = [(wide, w) for wide, widths in SITES.values() for w in widths]
        per_adapter = RANK * sum(wide + narrow for wide, narrow in modules)
        arena = torch.randn(
            adapters * layers * per_adapter, device="cuda", dtype=torch.bfloat16
        ).mul_(0.02)
        a_rows, b_rows, index, at = (
            [],
            [],
            torch.zeros(adapters, layers * 7, 4, dtype=torch.int64),
            0,
        )
        for adapter, layer in itertools.product(range(adapters), range(layers)):
            for number, (wide, narrow) in enumerate(modules):
                index[adapter, layer * 7 + number] = torch.tensor(
                    [len(a_rows), RANK, at, at + RANK * wide]
                )
                a_rows += [at + row * wide for row in range(RANK)]
                at += RANK * wide
                b_rows += [at + row * narrow for row in range(RANK)]
                at += RANK * narrow
        device = torch.device("cuda")
        self.tables = LoRATables(
            arena,
            torch.tensor(a_rows, device=device),
            torch.tensor(b_rows, device=device),
            index.to(device),
            aligned=True,
        )
        cuts = [round(i * tokens / adapters) for i in range(adapters + 1)]
        spans = tuple((i, cuts[i], cuts[i + 1]) for i in range(adapters))
        self.segments = LoRASegments.build(spans, tokens, RANK, device)
        self.adapter_bytes = adapters * per_adapter * 2  # in one layer
        self.x = torch.randn(tokens, HIDDEN, device=device, dtype=torch.bfloat16)
        self.inputs = {
            "qkv": self.x,
            "o": self.x,
            "gate_up": self.x,
            "down": torch.randn(tokens, INTER, device=device, dtype=torch.bfloat16),
        }
        self.outputs = {
            name: torch.randn(tokens, sum(widths), device=device, dtype=torch.bfloat16)
            for name, (_, widths) in SITES.items()
        }
        cache = torch.zeros(
            2, tokens // 16 + 1, 16, KV_HEADS, HEAD_DIM, device=device, dtype=torch.bfloat16
        )
        self.k_cache, self.v_cache = cache
        angles = torch.rand(4096, HEAD_DIM // 2, device=device)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.positions = torch.arange(tokens, device=device)
        self.first = {"qkv": 0, "o": 3, "gate_up": 4, "down": 6}

    def base_weights(self) -> list[dict[str, torch.Tensor]]:
        return [
            {
                name: torch.randn(sum(w), wide, device="cuda", dtype=torch.bfloat16).mul_(0.02)
                for name, (wide, w) in SITES.items()
            }
            for _ in range(self.layers)
        ]

    def shrink(self, name: str, layer: int) -> torch.Tensor:
        return shrink.lora_shrink_triton(
            self.inputs[name],
            self.tables,
            self.segments,
            layer * 7 + self.first[name],
            len(SITES[name][1]),
        )

    def expand(self, name: str, layer: int, s: torch.Tensor) -> None:
        delta = LoRADelta(s, self.tables, self.segments, layer * 7 + self.first[name])
        y = self.outputs[name]
        if name == "gate_up":
            silu_mul(y, delta)
        elif name == "qkv":
            self.to_cache(y, delta)
        else:
            expand.lora_expand_triton(
                y, s, self.tables, self.segments, delta.first_module, SITES[name][1]
            )

    def to_cache(self, y: torch.Tensor, delta: LoRADelta | None) -> torch.Tensor:
        return qkv_to_cache(
            y,
            self.k_cache,
            self.v_cache,
            self.cos,
            self.sin,
            self.positions,
            self.positions,
            None,
            delta,
        )


def use(op: str | None, launch: Launch | None) -> None:
    """Make all launchers take this constant for this kernel; None leaves the tables' own."""

    decode = (DecodeLaunch, RunShrink, QkvLaunch)

    def constants(tokens: int) -> DecodeRegime:
        own = tuning.decode_constants(tokens)
        return own._replace(**{op: launch}) if isinstance(launch, decode) else own

    for module in (shrink, expand, activation, to_cache):
        module.decode_constants = constants
    for name, module in PREFILL.items():
        constant = f"PREFILL_{name.upper()}"
        chosen = launch if op == name and not isinstance(launch, decode) else None
        setattr(module, constant, chosen or getattr(tuning, constant))


def copies_for(tokens: int, adapters: int) -> int:
    """Layers to rotate over so that one site's rows do not stay in the L2 cache."""
    smallest = RANK * 8192 * 2 * adapters
    return max(LAYERS, min(96, L2_BYTES // smallest + 1)) if tokens <= 512 else LAYERS


def sites_of(op: str) -> list[str]:
    """Sites at which a kernel runs."""
    return [site for site, kernel in OF_SITE.items() if op in ("shrink", kernel)]


def site_us(layer: Layer, op: str, name: str, *, compile_only: bool) -> float:
    rounds = 1 if compile_only else max(layer.layers, 24)
    s = None if op == "shrink" else layer.shrink(name, 0)

    def run() -> None:
        for number in range(rounds):
            if s is None:
                layer.shrink(name, number % layer.layers)
            else:
                layer.expand(name, number % layer.layers, s)

    if compile_only:
        run()
        return 0.0
    return round(captured_us(run) / rounds, 2)


def sweep(tokens: int, adapters: int, share: tuple[int, int], *, compile_only: bool) -> None:
    layer = Layer(tokens, adapters, copies_for(tokens, adapters))
    found: dict[str, list[tuple[float, str, dict[str, float]]]] = {}
    for op, launch in list(variants(tokens))[share[0] :: share[1]]:
        use(op, launch)
        try:
            parts = {
                name: site_us(layer, op, name, compile_only=compile_only) for name in sites_of(op)
            }
        except Exception as error:
            print(op, tuple(launch), type(error).__name__, str(error).split("\n")[0][:80])
            continue
        found.setdefault(op, []).append((sum(parts.values()), str(tuple(launch)), parts))
    use(None, None)
    if compile_only:
        return
    for op, results in found.items():
        for total, constants, parts in sorted(results)[:3]:
            row = {
                "op": op,
                "tokens": tokens,
                "adapters": adapters,
                "constants": constants,
                "us_per_layer": round(total, 1),
                "us_by_site": parts,
                "floor_us_both": round(layer.adapter_bytes / BANDWIDTH, 1),
            }
            record(
                "tune_lora.jsonl", row, f"{op} {tokens},{adapters} {constants} {total:.1f} {parts}"
            )


def measure_layer(tokens: int, adapters: int) -> None:
    """A layer without attention: base, and with adapters, with the shrink beside the base product and after it."""
    layer = Layer(tokens, adapters, LAYERS)
    weights = layer.base_weights()
    norm = torch.ones(HIDDEN, device="cuda", dtype=torch.bfloat16)
    stream = torch.cuda.Stream()

    def run(with_lora: bool, side: torch.cuda.Stream | None) -> None:
        residual = layer.x.clone()
        normed = layer.x

        def linear(name: str, x: torch.Tensor, number: int, deferred: bool):
            weight = weights[number][name]
            if not with_lora:
                return base_linear(x, weight), None
            args = (layer.tables, layer.segments, number * 7 + layer.first[name], SITES[name][1])
            if deferred:
                return lora_linear_deferred(x, weight, None, *args, side)
            return lora_linear(x, weight, None, *args, side), None

        for number in range(LAYERS):
            y, delta = linear("qkv", normed, number, True)
            q = layer.to_cache(y, delta)
            y, _ = linear("o", q.reshape(tokens, HIDDEN), number, False)
            normed, residual = add_rms_norm(y, residual, norm, 1e-5)
            y, delta = linear("gate_up", normed, number, True)
            y, _ = linear("down", silu_mul(y, delta), number, False)
            normed, residual = add_rms_norm(y, residual, norm, 1e-5)

    def run_all() -> None:
        run(False, None)
        run(True, stream)
        run(True, None)

    compile_ahead(run_all, layer.x.device)
    base = captured_us(lambda: run(False, None)) / LAYERS
    beside = captured_us(lambda: run(True, stream)) / LAYERS
    after = captured_us(lambda: run(True, None)) / LAYERS
    floor = layer.adapter_bytes / BANDWIDTH
    record(
        "lora_layer.jsonl",
        {
            "tokens": tokens,
            "adapters": adapters,
            "base_us": round(base, 1),
            "added_us": round(min(beside, after) - base, 1),
            "added_us_side_stream": round(beside - base, 1),
            "added_us_one_stream": round(after - base, 1),
            "floor_us": round(floor, 1),
            "goal_us": round(1.5 * floor + 8, 1),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["sweep", "layer", "compile"])
    parser.add_argument("--regimes", nargs="+", help="tokens,adapters pairs")
    parser.add_argument("--share", default="0/1", help="of the variants to compile, as i/n")
    args = parser.parse_args()
    regimes = [tuple(map(int, r.split(","))) for r in args.regimes] if args.regimes else REGIMES
    index, count = map(int, args.share.split("/"))
    with torch.inference_mode():
        for tokens, adapters in regimes:
            start = time.perf_counter()
            if args.only != "sweep" and args.only != "compile":
                measure_layer(tokens, adapters)
            if args.only != "layer":
                compile_only = args.only == "compile"
                sweep(tokens, adapters, (index, count), compile_only=compile_only)
            torch.cuda.empty_cache()
            print(f"# {tokens},{adapters}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
