"""What the service path costs: tokens per second through HTTP streaming against what the engine makes alone.

Both sides get the same prompts, lengths and adapters on the same machine, one after the other: the engine in a process
of its own, without sockets, with a new request whenever one has ended; then `loraplex serve` with as many concurrent
streaming clients. Both decode tokens to text. Prompts are part of the time on both sides.

    python benchmarks/service_overhead.py --shape 8b --clients 256 --output 200 --adapters 0 4
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from load_processes import LoadProcesses
from results_file import record
from serving_server import Target, cpu_seconds, push_adapters, started, write_model
from shapes import SHAPES

from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Shot
from loraplex.platform.bench.report import Report, summarise

# Long enough for every kernel and every path to have been used once.
_WARM_UP_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Alone:
    """What the engine made by itself: tokens per second with prompts, and the median step in which all decoded."""

    tokens_per_s: float
    step_ms: float


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), args.shape, with_tokenizer=True)
        if args.child:
            print(json.dumps(run_alone(args, model)), flush=True)
            return
        alone = dict(zip(args.adapters, _alone(), strict=True))
        options = ["--device", args.device, *args.serve_option]
        if args.api_workers:
            options += ["--api-workers", str(args.api_workers)]
        begin = time.perf_counter()
        with started(model, options) as target:
            print(f"server ready after {time.perf_counter() - begin:.1f} s", flush=True)
            most = max(args.adapters)
            begin = time.perf_counter()
            names = push_adapters(target, model, most, args.rank, attention_only=False)
            print(f"{most} adapters pushed in {time.perf_counter() - begin:.1f} s", flush=True)
            address = Address.of(target.url, target.key)
            with LoadProcesses(address, args.processes) as clients:
                for adapters in args.adapters:
                    for chat in (False, True) if args.chat and not adapters else (False,):
                        models = replace(target, models=names[:adapters])
                        measure(args, models, clients, alone[adapters], chat=chat)


def measure(
    args: argparse.Namespace, target: Target, clients: LoadProcesses, alone: Alone, *, chat: bool
) -> None:
    """One run through HTTP, recorded beside its run alone."""
    clients.closed(_shots(args, target, _WARM_UP_TOKENS, seed=1, chat=chat), args.clients)
    pids = target.pids or {}
    before = {role: cpu_seconds(pid) for role, pid in pids.items()}
    shots = _shots(args, target, args.output, seed=0, chat=chat)
    loaded = clients.closed(shots, args.clients)
    used = {role: cpu_seconds(pid) - before[role] for role, pid in pids.items()}
    report: Report = summarise(loaded.outcomes)
    workers = [seconds for role, seconds in used.items() if role.startswith("api")]
    per_token = 1e6 / max(report.output_tokens, 1)
    record(
        "service_overhead.jsonl",
        {
            "benchmark": "service_overhead",
            "shape": args.shape,
            "route": "chat" if chat else "completions",
            "clients": args.clients,
            "adapters": len(target.models),
            "rank": args.rank if target.models else None,
            "prompt": args.prompt,
            "output": args.output,
            "requests": report.requests,
            "errors": report.errors,
            "first_error": report.first_error,
            "alone_tokens_per_s": round(alone.tokens_per_s),
            "http_tokens_per_s": round(report.output_tokens_per_s),
            "ratio": round(report.output_tokens_per_s / alone.tokens_per_s, 3),
            "alone_step_ms": round(alone.step_ms, 2),
            "itl_p50_ms": round(report.itl_p50, 2),
            "itl_p99_ms": round(report.itl_p99, 2),
            "ttft_p50_ms": round(report.ttft_p50, 1),
            "ttft_p99_ms": round(report.ttft_p99, 1),
            "api_workers": len(workers),
            "seconds": round(report.seconds, 2),
            "engine_cpu_s": round(sum(used.values()) - sum(workers), 2),
            "api_cpu_s": round(sum(workers), 2),
            "busiest_api_cpu_s": round(max(workers, default=0.0), 2),
            "api_us_per_token": round(sum(workers) * per_token, 1),
            "client_us_per_token": round(loaded.cpu_seconds * per_token, 1),
        },
    )


def run_alone(args: argparse.Namespace, model: Path) -> list[dict[str, float]]:
    """The engine by itself, with each number of adapters; runs in the child."""
    import torch
    from random_adapters import RandomAdapters

    from loraplex.engine.config import EngineConfig
    from loraplex.engine.engine import Engine
    from loraplex.engine.model_config import ModelConfig
    from loraplex.engine.model_runner import resolve_device, resolve_dtype
    from loraplex.engine.request import Request
    from loraplex.engine.sampling_params import SamplingParams

    config = ModelConfig.from_directory(model)
    device = resolve_device(args.device)
    dtype: torch.dtype = resolve_dtype("auto", config, device)
    source = RandomAdapters(config, (args.rank,), dtype, pin=device.type == "cuda")
    engine = Engine(EngineConfig(model=model, device=args.device, load_format="dummy"), source)

    def work(adapters: int, tokens: int, seed: int) -> tuple[float, list[float]]:
        names = tuple(str(number) for number in range(adapters))
        target = Target("", "", "", config.vocab_size, names)
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        shots = enumerate(_shots(args, target, tokens, seed=seed, chat=False))

        def add_next() -> bool:
            number, shot = next(shots, (0, None))
            if shot is None:
                return False
            adapter = int(shot.model) if shot.model else None
            assert isinstance(shot.prompt, tuple)
            engine.add(Request(f"{adapters}-{seed}-{number}", shot.prompt, params, adapter))
            return True

        start = time.perf_counter()
        for _ in range(args.clients):
            add_next()
        made, full = 0, []
        last = time.perf_counter()
        while engine.has_work():
            outputs = engine.step()
            now = time.perf_counter()
            assert all(output.error is None for output in outputs), outputs
            tokens_now = sum(len(output.token_ids) for output in outputs)
            made += tokens_now
            if tokens_now >= args.clients:
                full.append(now - last)
            last = now
            for output in outputs:
                if output.finish_reason is not None:
                    add_next()
        return made / (time.perf_counter() - start), full

    results = []
    for adapters in args.adapters:
        work(adapters, _WARM_UP_TOKENS, 1)
        rate, steps = work(adapters, args.output, 0)
        step_ms = 1000 * statistics.median(steps or [0.0])
        results.append({"tokens_per_s": rate, "step_ms": step_ms})
    return results


def _alone() -> list[Alone]:
    command = [sys.executable, *sys.argv, "--child"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    results = [Alone(**result) for result in json.loads(done.stdout.splitlines()[-1])]
    print(*results, sep="\n", flush=True)
    return results


def _shots(
    args: argparse.Namespace, target: Target, tokens: int, *, seed: int, chat: bool
) -> list[Shot]:
    """The same on both sides. No two prompts share a beginning, so nothing comes from the prefix cache."""
    rng = np.random.default_rng(seed)
    names = target.models or (target.base,)
    vocab = min(target.vocab_size, 32_000)
    shots = []
    for number in range(args.clients * args.rounds):
        prompt = tuple(rng.integers(3, vocab, args.prompt).tolist())
        text = f"{number} {seed}" + " a" * (args.prompt - 6)
        shots.append(Shot(names[number % len(names)], text if chat else prompt, tokens, chat=chat))
    return shots


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=list(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1, help="requests per client")
    parser.add_argument("--prompt", type=int, default=320)
    parser.add_argument("--output", type=int, default=200)
    parser.add_argument("--adapters", type=int, nargs="+", default=[0])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--chat", action="store_true", help="also through chat completions")
    parser.add_argument("--api-workers", type=int)
    parser.add_argument("--serve-option", nargs="*", default=[], help="further ones of `serve`")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 4))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
