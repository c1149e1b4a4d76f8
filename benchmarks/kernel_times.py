"""Each operation of a decoder layer alone: time, bytes or FLOP, share of what the machine can do at best.

Timed are launches in a CUDA graph that rotate over copies of weights, adapters and KV, so that these come from memory
as they do in a model; activations are as warm as there, where the kernel before has just written them. The ceilings
(a read, a copy, an 8192³ product) are measured in the same run.

    python benchmarks/kernel_times.py [--quick] [--only linear attention ...]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from ceilings import Ceilings, measure_ceilings
from lora_site import lora_site
from replay import copies_to_rotate, replay_us
from results_file import record

from loraplex.kernels.activation import silu_mul
from loraplex.kernels.attention import paged_attention
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.linear import linear
from loraplex.kernels.lora.apply import lora_linear
from loraplex.kernels.norm import add_rms_norm, rms_norm
from loraplex.kernels.qkv import qkv_to_cache
from loraplex.kernels.sampling.choose import choose

_BLOCK = 16
_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder layer."""

    hidden: int
    inter: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @property
    def sites(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """in_features and slice widths of the projections."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "qkv": (self.hidden, (q, kv, kv)),
            "o": (q, (self.hidden,)),
            "gate_up": (self.hidden, (self.inter, self.inter)),
            "down": (self.inter, (self.hidden,)),
        }


SHAPES = {
    "8b": Shape(4096, 14336, 32, 8, 128, 128256),
    "tiny": Shape(64, 128, 4, 2, 16, 256),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one size: `launch(copy)` moves `bytes` and computes `flop`."""

    op: str
    size: str
    launch: Callable[[int], object]
    copies: int
    bytes: int
    flop: int = 0


class Cases:
    """Makes the cases of a shape."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self._size = dtype.itemsize

    def random(self, *size: int) -> torch.Tensor:
        return torch.empty(*size, dtype=self.dtype, device=self.device).normal_()

    def linear(self, tokens: int) -> Iterator[Case]:
        head = ("lm_head", (self.shape.hidden, (self.shape.vocab,)))
        for name, (wide, widths) in (*self.shape.sites.items(), head):
            out = sum(widths)
            if name == "lm_head" and tokens > 512:  # only sampled rows get there
                continue
            copies = copies_to_rotate(wide * out * self._size)
            weights = [self.random(out, wide) for _ in range(copies)]
            x = self.random(tokens, wide)
            yield Case(
                f"linear {name}",
                f"{tokens} tokens",
                lambda copy, x=x, weights=weights: linear(x, weights[copy]),
                copies,
                (wide * out + tokens * (wide + out)) * self._size,
                2 * tokens * wide * out,
            )

    def lora(self, tokens: int, adapters: int, rank: int) -> Iterator[Case]:
        """A projection with its adapters; subtract `linear` for what they add."""
        for name, (wide, widths) in self.shape.sites.items():
            site = lora_site(wide, widths, tokens, (rank,) * adapters, self.dtype, self.device)
            out = sum(widths)
            copies = max(len(site.segments), copies_to_rotate(wide * out * self._size))
            weights = [self.random(out, wide) for _ in range(copies_to_rotate(wide * out * 2))]
            x = self.random(tokens, wide)

            def launch(copy: int, x=x, weights=weights, site=site, widths=widths) -> object:
                segments = site.segments[copy % len(site.segments)]
                weight = weights[copy % len(weights)]
                return lora_linear(x, weight, None, site.tables, segments, 0, widths)

            yield Case(
                f"lora_linear {name}",
                f"{tokens} tokens, {adapters} x rank {rank}",
                launch,
                copies,
                site.bytes + (wide * out + tokens * (wide + out)) * self._size,
                2 * tokens * (wide * out + rank * (wide * len(widths) + out)),
            )

    def attention_decode(self, sequences: int, context: int) -> Iterator[Case]:
        yield self._attention("attention decode", [1] * sequences, context)

    def attention_prefill(self, sequences: int, context: int) -> Iterator[Case]:
        yield self._attention("attention prefill", [context] * sequences, context)

    def _attention(self, op: str, queries: list[int], context: int) -> Case:
        shape = self.shape
        blocks = -(-context // _BLOCK)
        kv_bytes = 2 * len(queries) * context * shape.kv_heads * shape.head_dim * self._size
        copies = copies_to_rotate(kv_bytes, most=16)
        cache = self.random(
            copies * len(queries) * blocks, 2, _BLOCK, shape.kv_heads, shape.head_dim
        )
        tokens = sum(queries)
        q = self.random(tokens, shape.heads, shape.head_dim)
        starts = torch.tensor([0, *torch.tensor(queries).cumsum(0).tolist()], dtype=torch.int32)
        # Blocks of a sequence lie apart, as they do after a while of serving.
        order = torch.randperm(copies * len(queries) * blocks, dtype=torch.int32)
        tables = order.view(copies, len(queries), blocks).to(self.device)
        lengths = torch.full((len(queries),), context, dtype=torch.int32, device=self.device)
        metas = [
            AttentionMeta(
                starts.to(self.device),
                lengths,
                tables[copy],
                tuple(queries),
                (context,) * len(queries),
            )
            for copy in range(copies)
        ]
        seen = sum(count * (context - count) + count * (count + 1) // 2 for count in queries)
        return Case(
            op,
            f"{len(queries)} x {context}",
            lambda copy: paged_attention(
                q, cache[:, 0], cache[:, 1], metas[copy], shape.head_dim**-0.5
            ),
            copies,
            kv_bytes + 2 * tokens * shape.heads * shape.head_dim * self._size,
            4 * seen * shape.heads * shape.head_dim,
        )

    def small(self, tokens: int) -> Iterator[Case]:
        shape, size = self.shape, self._size
        label = f"{tokens} tokens"
        x, residual = self.random(tokens, shape.hidden), self.random(tokens, shape.hidden)
        weight = self.random(shape.hidden)
        row = tokens * shape.hidden * size
        yield Case("rms_norm", label, lambda _: rms_norm(x, weight, _EPS), 1, 2 * row)
        yield Case(
            "add_rms_norm", label, lambda _: add_rms_norm(x, residual, weight, _EPS), 1, 4 * row
        )
        gate_up = self.random(tokens, 2 * shape.inter)
        yield Case(
            "silu_mul", label, lambda _: silu_mul(gate_up), 1, 3 * tokens * shape.inter * size
        )
        heads = shape.heads + 2 * shape.kv_heads
        qkv = self.random(tokens, heads * shape.head_dim)
        angles = torch.rand(2048, shape.head_dim // 2, device=self.device)
        cos, sin = angles.cos(), angles.sin()
        positions = torch.arange(tokens, device=self.device) % 2048
        blocks = -(-tokens // _BLOCK)
        cache = self.random(blocks, 2, _BLOCK, shape.kv_heads, shape.head_dim)
        slots = torch.randperm(tokens, device=self.device)
        yield Case(
            "qkv_to_cache",
            label,
            lambda _: qkv_to_cache(qkv, cache[:, 0], cache[:, 1], cos, sin, positions, slots),
            1,
            2 * qkv.numel() * size,
        )

    def sampling(self, rows: int) -> Iterator[Case]:
        copies = copies_to_rotate(rows * self.shape.vocab * self._size, most=16)
        logits = [self.random(rows, self.shape.vocab) for _ in range(copies)]
        yield Case(
            "greedy sampling",
            f"{rows} rows",
            lambda copy: choose(logits[copy], None),
            copies,
            logits[0].numel() * self._size,
        )


def plan(cases: Cases, quick: bool, tiny: bool) -> Iterator[tuple[str, Iterator[Case]]]:
    """Groups of cases by name, cheapest to compile first."""
    decode = (1, 8, 32, 128, 256) if not quick else (1, 32, 128)
    context, chunk = (345, 2048) if not tiny else (40, 64)
    for tokens in (*decode, chunk):
        yield "linear", cases.linear(tokens)
    for sequences in decode:
        yield "attention", cases.attention_decode(sequences, context)
    for sequences, length in ((1, 8000), (8, 4096)) if not tiny else ((1, 100),):
        yield "attention", cases.attention_decode(sequences, length)
    yield "attention", cases.attention_prefill(1, chunk)
    yield "attention", cases.attention_prefill(6, chunk // 6)
    for tokens in (*decode, chunk):
        yield "small", cases.small(tokens)
    for rows in decode:
        yield "sampling", cases.sampling(rows)
    mixes = [(32, 1, 16), (32, 32, 16), (128, 32, 16), (128, 128, 16)]
    if not quick:
        mixes += [(1, 1, 16), (256, 32, 16), (32, 32, 8), (32, 32, 64), (32, 32, 128)]
        mixes += [(chunk, 1, 16), (chunk, 32, 16)]
    for tokens, adapters, rank in mixes:
        yield "lora", cases.lora(tokens, adapters, rank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=sorted(SHAPES))
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    parser.add_argument(
        "--only", nargs="+", default=[], help="linear attention small sampling lora"
    )
    parser.add_argument("--seconds", type=float, default=200.0, help="stop after about this long")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    end = time.monotonic() + args.seconds
    with torch.inference_mode():
        ceilings = measure_ceilings(dtype, device)
        print(
            f"read {ceilings.read / 1e12:.2f} TB/s, copy {ceilings.copy / 1e12:.2f} TB/s, "
            f"gemm {ceilings.gemm / 1e12:.0f} TFLOP/s",
            flush=True,
        )
        cases = Cases(SHAPES[args.shape], dtype, device)
        for group, members in plan(cases, args.quick, args.shape == "tiny"):
            if args.only and group not in args.only:
                continue
            for case in members:
                if time.monotonic() > end:
                    print("out of time", flush=True)
                    return
                report(args.shape, case, ceilings, device)


def report(shape: str, case: Case, ceilings: Ceilings, device: torch.device) -> None:
    took = replay_us(case.launch, case.copies, device)
    byte_floor, flop_floor = case.bytes / ceilings.read, case.flop / ceilings.gemm
    share = 1e6 * max(byte_floor, flop_floor) / took
    bound = "bytes" if byte_floor >= flop_floor else "flop"
    record(
        "kernels.jsonl",
        {
            "benchmark": "kernels",
            "shape": shape,
            "op": case.op,
            "size": case.size,
            "us": round(took, 2),
            "mb": round(case.bytes / 1e6, 2),
            "gflop": round(case.flop / 1e9, 2),
            "tb_per_s": round(case.bytes / took / 1e6, 3),
            "tflop_per_s": round(case.flop / took / 1e6, 1),
            "share_of_ceiling": round(share, 3),
            "bound_by": bound,
            "read_tb_per_s": round(ceilings.read / 1e12, 2),
            "gemm_tflop_per_s": round(ceilings.gemm / 1e12, 1),
        },
        f"{case.op:20s} {case.size:28s} {took:9.2f} us  {100 * share:5.1f} % of {bound}",
    )


if __name__ == "__main__":
    main()
