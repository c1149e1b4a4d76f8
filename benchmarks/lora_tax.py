"""What adapters cost: offline throughput and time per token through the engine, for batches and mixes of adapters.

A model of a known shape with random weights, all-linear adapters of random numbers, each with its own memory on the
device. Sections (--only): `decode` (batches × distinct adapters, rank 16), `ranks` (8, 64, 128 and a mix of all),
`loaded` (base traffic before and after adapters are loaded), `end_to_end` (one adapter, prompts and outputs), `prefill`
(steps of 2048 prompt tokens). Floors are bytes over the read bandwidth measured in the same run; a goal is 1.5 × the
floor of the adapters' bytes + 8 us per layer.

    python benchmarks/lora_tax.py [--quick] [--only decode prefill ...] [--seconds 240]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ceilings import Ceilings, measure_ceilings
from engine_runs import load_adapters, run_batch, steady_prefill_s
from lora_tax_plans import QUICK, TINY, Plan
from random_adapters import RandomAdapters
from results_file import record
from shapes import write_config
from stamps import Run

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype

FILE = "lora_tax.jsonl"
RANKS = (8, 16, 64, 128)
SECTIONS = ("loaded", "decode", "end_to_end", "prefill", "ranks")


class Tax:
    """One engine and what was measured on it so far."""

    def __init__(self, shape: str, plan: Plan, device: str, ceilings: Ceilings) -> None:
        self.shape, self.plan, self.ceilings = shape, plan, ceilings
        with tempfile.TemporaryDirectory() as folder:
            path = write_config(Path(folder), shape, "bfloat16")
            self.model = ModelConfig.from_directory(path)
            where = resolve_device(device)
            self.dtype = resolve_dtype("auto", self.model, where)
            self.source = RandomAdapters(self.model, RANKS, self.dtype, pin=where.type == "cuda")
            longest = max(plan.prompt + max(plan.output, plan.long_output), plan.chunk) + 16
            config = EngineConfig(
                model=path,
                device=device,
                load_format="dummy",
                max_model_len=min(longest, self.model.max_position),
                max_num_seqs=max(sequences for sequences, _ in plan.mixes),
                max_num_batched_tokens=max(plan.chunk, max(s for s, _ in plan.mixes)),
                enable_prefix_cache=False,
            )
            start = time.perf_counter()
            self.engine = Engine(config, self.source)
            print(f"engine ready in {time.perf_counter() - start:.1f} s", flush=True)
        self._base: dict[int, Run] = {}

    # Sections

    def loaded(self) -> None:
        """Runs first: base traffic on an engine that never saw an adapter, then with many on the device."""
        plan = self.plan
        many = max(adapters for _, adapters in plan.mixes)
        batches = [s for s in (32, 128) if s in {n for n, _ in plan.mixes}] or [plan.mixes[-1][0]]
        before = {n: self._median_step([None] * n) for n in batches}
        load_adapters(self.engine, self.source.handles(16, many))
        for sequences in batches:
            after = self._median_step([None] * sequences)
            tax = after / before[sequences] - 1
            self._record(
                f"base traffic, {many} adapters loaded: {sequences:3d} sequences "
                f"{before[sequences]:6.3f} -> {after:6.3f} ms, {100 * tax:+.2f} % (goal 1)",
                section="loaded",
                sequences=sequences,
                adapters_loaded=many,
                step_ms=round(after, 3),
                base_step_ms=round(before[sequences], 3),
                tax=round(tax, 4),
                goal_tax=0.01,
                met=tax < 0.01,
            )

    def decode(self) -> None:
        for sequences, adapters in self.plan.mixes:
            self._decode(sequences, self.source.handles(16, adapters), "16")

    def ranks(self) -> None:
        for sequences, adapters in self.plan.rank_mixes:
            for rank in RANKS:
                if rank != 16:
                    self._decode(sequences, self.source.handles(rank, adapters), str(rank))
            if adapters >= len(RANKS):
                self._decode(sequences, list(range(adapters)), "mixed")

    def end_to_end(self) -> None:
        """One adapter against none, prompts and outputs, runs of both in turn."""
        plan = self.plan
        handle = self.source.handles(16, 1)[0]
        load_adapters(self.engine, [handle])
        walls: dict[int | None, list[float]] = {None: [], handle: []}
        for repeat in range(plan.repeats + 1):
            for adapter, times in walls.items():
                run = run_batch(
                    self.engine, [adapter] * plan.sequences, plan.prompt, plan.long_output
                )
                if repeat:  # the first of each warms up
                    times.append(run.wall_s)
        base, own = (statistics.median(times) for times in walls.values())
        tokens = plan.sequences * plan.long_output
        tax = own / base - 1
        self._record(
            f"one adapter end to end: {plan.sequences} sequences, {plan.prompt} + {plan.long_output} tokens: "
            f"{base:.3f} -> {own:.3f} s, {100 * tax:+.2f} % (goal 7)",
            section="end_to_end",
            sequences=plan.sequences,
            adapters=1,
            rank="16",
            prompt=plan.prompt,
            output=plan.long_output,
            tokens_per_s=round(tokens / own),
            base_tokens_per_s=round(tokens / base),
            tax=round(tax, 4),
            goal_tax=0.07,
            met=tax < 0.07,
        )

    def prefill(self) -> None:
        plan = self.plan
        per_step = plan.chunk // plan.short
        load_adapters(self.engine, self.source.handles(16, per_step))
        for prompt in (plan.chunk, plan.short):
            count = plan.chunks * plan.chunk // prompt
            base = None
            for adapters in (0, 1, per_step):
                handles: Sequence[int | None] = self.source.handles(16, adapters) or [None]
                took = steady_prefill_s(
                    self.engine,
                    [handles[number % len(handles)] for number in range(count)],
                    prompt,
                    plan.chunk,
                )
                base = took if base is None else base
                flop = self._prefill_flop(prompt)
                share = flop / took / self.ceilings.gemm
                self._record(
                    f"prefill, prompts of {prompt:4d}, {adapters:2d} adapters: {1000 * took:7.2f} ms per "
                    f"{plan.chunk} tokens, {100 * share:5.1f} % of GEMM (goal 75), {100 * (took / base - 1):+.1f} %",
                    section="prefill",
                    prompt=prompt,
                    adapters=adapters,
                    rank="16" if adapters else "",
                    chunk=plan.chunk,
                    step_ms=round(1000 * took, 3),
                    prefill_tokens_per_s=round(plan.chunk / took),
                    tflop_per_s=round(flop / took / 1e12, 1),
                    gemm_tflop_per_s=round(self.ceilings.gemm / 1e12, 1),
                    share_of_gemm=round(share, 3),
                    tax=round(took / base - 1, 4),
                    goal_tax=0.08,
                    met=share >= 0.75 if not adapters else took / base - 1 < 0.08,
                )

    # Parts

    def _median_step(self, adapters: list[int | None]) -> float:
        runs = [
            run_batch(self.engine, adapters, self.plan.prompt, self.plan.output, seed)
            for seed in range(self.plan.repeats)
        ]
        return statistics.median(run.step_ms for run in runs)

    def _base_run(self, sequences: int) -> Run:
        """Base of a batch size, measured and recorded once."""
        if sequences in self._base:
            return self._base[sequences]
        plan = self.plan
        if not self._base:
            run_batch(self.engine, [None] * sequences, plan.prompt, 4)
        run = run_batch(self.engine, [None] * sequences, plan.prompt, self._output(sequences))
        self._base[sequences] = run
        floor = 1000 * self._base_bytes(sequences, run.context) / self.ceilings.read
        goal = 1.15 if sequences <= 32 else 1.3
        self._record_decode(
            sequences,
            0,
            "",
            run,
            f"{run.step_ms / floor:5.2f} x floor (goal {goal})",
            floor_ms=round(floor, 3),
            over_floor=round(run.step_ms / floor, 3),
            goal_over_floor=goal,
            met=run.step_ms <= goal * floor,
        )
        return run

    def _output(self, sequences: int) -> int:
        """Tokens per sequence: the first must not end before the last prompt is computed."""
        return self.plan.output + sequences * self.plan.prompt // self.plan.chunk

    def _decode(self, sequences: int, handles: Sequence[int], rank: str) -> None:
        base = self._base_run(sequences)
        load_adapters(self.engine, handles)
        adapters = [handles[number % len(handles)] for number in range(sequences)]
        run = run_batch(self.engine, adapters, self.plan.prompt, self._output(sequences))
        layers = self.model.num_layers
        adapter_bytes = sum(self.source.bytes(handle) for handle in handles)
        floor = 1e6 * adapter_bytes / self.ceilings.read / layers
        added = 1000 * (run.step_ms - base.step_ms) / layers
        goal = 1.5 * floor + 8
        self._record_decode(
            sequences,
            len(handles),
            rank,
            run,
            f"+{added:6.1f} us/layer (goal {goal:6.1f})",
            base_step_ms=round(base.step_ms, 3),
            over_base=round(run.step_ms / base.step_ms, 3),
            floor_us_per_layer=round(floor, 2),
            added_us_per_layer=round(added, 2),
            goal_us_per_layer=round(goal, 2),
            met=added <= goal,
        )

    def _record_decode(
        self, sequences: int, adapters: int, rank: str, run: Run, verdict: str, **row: object
    ) -> None:
        self._record(
            f"{sequences:3d} seq {adapters:3d} x r{rank:5s} step {run.step_ms:7.3f} tpot {run.tpot_ms:7.3f} "
            f"ttft {run.ttft_ms:7.1f} ms {verdict} {'met' if row['met'] else 'NOT met'}",
            section="decode",
            sequences=sequences,
            adapters=adapters,
            rank=rank,
            prompt=self.plan.prompt,
            context=round(run.context),
            step_ms=round(run.step_ms, 3),
            tpot_ms=round(run.tpot_ms, 3),
            tokens_per_s=round(1000 * sequences / run.step_ms),
            ttft_ms=round(run.ttft_ms, 1),
            last_ttft_ms=round(run.last_ttft_ms, 1),
            **row,
        )

    def _record(self, line: str, **row: object) -> None:
        read = round(self.ceilings.read / 1e12, 3)
        stamped = {"benchmark": "lora_tax", "shape": self.shape, **row, "read_tb_per_s": read}
        record(FILE, stamped, line)

    def _base_bytes(self, sequences: int, context: float) -> float:
        """What a decode step reads: the layers' and the head's weights, and the KV of all sequences."""
        model = self.model
        kv = 2 * model.num_layers * model.num_kv_heads * model.head_dim
        weights = self._linear_elements() + model.vocab_size * model.hidden_size
        return (weights + sequences * context * kv) * self.dtype.itemsize

    def _linear_elements(self) -> int:
        modules = [m for m in self.model.modules() if m.index < self.model.embedding_module]
        return sum(m.in_features * m.out_features for m in modules)

    def _prefill_flop(self, prompt: int) -> float:
        """Of one step: the layers' products and causal attention; the head sees one row per prompt."""
        model, chunk = self.model, self.plan.chunk
        prompts = chunk // prompt
        seen = prompts * prompt * (prompt + 1) // 2
        attention = 4 * seen * model.num_heads * model.head_dim * model.num_layers
        head = 2 * prompts * model.vocab_size * model.hidden_size
        return 2 * chunk * self._linear_elements() + attention + head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m", "tiny"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="the sizes that goals are set for")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--sequences", type=int, nargs="+", help="batches of `decode`")
    parser.add_argument("--adapters", type=int, nargs="+", help="distinct adapters of `decode`")
    parser.add_argument("--seconds", type=float, default=240.0, help="start no section after this")
    args = parser.parse_args()
    plan = TINY if args.shape == "tiny" else QUICK if args.quick else Plan()
    if args.sequences or args.adapters:
        batches = args.sequences or sorted({s for s, _ in plan.mixes})
        counts = args.adapters or sorted({d for _, d in plan.mixes})
        plan = replace(plan, mixes=tuple((s, d) for s in batches for d in counts if 0 < d <= s))
    end = time.monotonic() + args.seconds
    device = resolve_device(args.device)
    with torch.inference_mode():
        ceilings = measure_ceilings(
            torch.bfloat16 if device.type == "cuda" else torch.float32, device
        )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    print(
        f"read {ceilings.read / 1e12:.2f} TB/s, gemm {ceilings.gemm / 1e12:.0f} TFLOP/s", flush=True
    )
    tax = Tax(args.shape, plan, args.device, ceilings)
    for section in SECTIONS:
        if section in args.only:
            if time.monotonic() > end:
                print(f"out of time before {section}", flush=True)
                return
            getattr(tax, section)()


if __name__ == "__main__":
    main()
