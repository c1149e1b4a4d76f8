"""HTTP load on a running server, or on one it starts with random weights: throughput, latencies, errors.

Closed loop: --concurrency streaming clients, each sends its next request when it has its answer. Open loop: every
request is sent at its moment, whatever became of the others (S-LoRA's trace, or --open at --rate).

    python benchmarks/serving.py --start --shape 8b --workload fixed --requests 512 --concurrency 256
    python benchmarks/serving.py --start --shape 8b --adapters 32 --workload skewed --requests 1024 --concurrency 32
    python benchmarks/serving.py --start --shape 8b --adapters 100 --workload slora --rate 10 --seconds 120
    LORAPLEX_URL=... LORAPLEX_API_KEY=... python benchmarks/serving.py --models base a b --workload uniform

Workloads: `fixed` (equal lengths, models in turn); Punica's `identical`, `distinct`, `uniform` and `skewed`; `slora`.
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from load_processes import Loaded, LoadProcesses
from results_file import record
from serving_server import Target, push_adapters, started, write_model
from serving_workloads import Item, punica, slora
from shapes import SHAPES

from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Shot
from loraplex.platform.bench.report import summarise

PUNICA = ("identical", "distinct", "uniform", "skewed")
WORKLOADS = ("fixed", *PUNICA, "slora")


def main() -> None:
    args = _arguments()
    with ExitStack() as stack:
        target = _target(args, stack)
        clients = stack.enter_context(
            LoadProcesses(Address.of(target.url, target.key), args.processes)
        )
        # Every model once, so that its adapter has been on the device.
        names = target.models or (target.base,)
        clients.closed([Shot(name, (5, 6, 7), 2) for name in names] * 4, 16)
        for workload in args.workload:
            items = _items(args, workload)
            shots = make_shots(items, target, args.prompt_limit, text=args.text)
            is_open = workload == "slora" or args.open
            loaded = clients.open(shots) if is_open else clients.closed(shots, args.concurrency)
            used = len({shot.model for shot in shots})
            report(args, workload, used, loaded, is_open=is_open)


def make_shots(items: list[Item], target: Target, limit: int, *, text: bool) -> list[Shot]:
    """The items as requests to the models of `target`; prompts are random token ids, or text as S-LoRA sends it."""
    rng = np.random.default_rng(0)
    vocab = min(target.vocab_size, 32_000)
    names = target.models or (target.base,)
    shots = []
    for item in items:
        length = min(item.prompt, limit)
        prompt = "Hello " * length if text else tuple(rng.integers(3, vocab, length).tolist())
        shots.append(Shot(names[item.adapter % len(names)], prompt, item.output, item.at))
    return shots


def report(
    args: argparse.Namespace, workload: str, used: int, loaded: Loaded, *, is_open: bool
) -> None:
    """Record one line for the run."""
    measured = asdict(summarise(loaded.outcomes))
    rounded = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in measured.items()
    }
    record(
        "serving.jsonl",
        {
            "benchmark": "serving",
            "shape": args.shape if args.start else None,
            "workload": workload,
            "adapters": args.adapters or len(args.models),
            "models_used": used,
            "rank": args.rank if args.adapters else None,
            "targets": args.targets if args.adapters else None,
            "concurrency": None if is_open else args.concurrency,
            "rate": args.rate if is_open else None,
            "alpha": args.alpha if workload == "slora" else None,
            "cv": args.cv if workload == "slora" else None,
            "prompt_limit": args.prompt_limit,
            "output_limit": args.output_limit if workload in PUNICA else None,
            **rounded,
            "client_cpu_s": round(loaded.cpu_seconds, 2),
        },
    )


def _items(args: argparse.Namespace, workload: str) -> list[Item]:
    kinds = max(args.adapters, len(args.models), 1)
    if workload == "slora":
        return slora(args.adapters, args.alpha, args.rate, args.cv, args.seconds, args.seed)
    if workload == "fixed":
        items = [Item(i % kinds, args.prompt, args.output) for i in range(args.requests)]
    else:
        items = [
            replace(item, output=min(item.output, args.output_limit))
            for item in punica(workload, args.requests, args.prompt_limit)
        ]
    if not args.open:
        return items
    gaps = np.random.default_rng(args.seed).exponential(1 / args.rate, len(items))
    return [replace(item, at=float(at)) for item, at in zip(items, np.cumsum(gaps), strict=True)]


def _target(args: argparse.Namespace, stack: ExitStack) -> Target:
    if not args.start:
        url, key = os.environ["LORAPLEX_URL"], os.environ["LORAPLEX_API_KEY"]
        return Target(url, key, args.models[0], args.vocab_size, tuple(args.models))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    model = write_model(folder, args.shape, with_tokenizer=True)
    options = ["--device", args.device, *args.serve_option]
    target = stack.enter_context(started(model, options))
    names = push_adapters(
        target, model, args.adapters, args.rank, attention_only=args.targets == "qv"
    )
    return replace(target, models=names)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", action="store_true", help="start a server with random weights")
    parser.add_argument("--shape", default="8b", choices=list(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--serve-option", nargs="*", default=[], help="further ones of `serve`")
    parser.add_argument("--models", nargs="*", default=[], help="of a running server")
    parser.add_argument("--vocab-size", type=int, default=32_000, help="of a running server")
    parser.add_argument("--adapters", type=int, default=0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="all", choices=["all", "qv"])
    parser.add_argument("--workload", nargs="+", default=["fixed"], choices=WORKLOADS)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--open", action="store_true", help="send at --rate; S-LoRA's always is")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=120, help="of S-LoRA's trace")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--cv", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--prompt", type=int, default=320, help="tokens, of `fixed`")
    parser.add_argument("--output", type=int, default=200, help="tokens, of `fixed`")
    parser.add_argument("--prompt-limit", type=int, default=2048)
    parser.add_argument("--output-limit", type=int, default=2048, help="shortens Punica's answers")
    parser.add_argument("--text", action="store_true", help="prompts as text, not token ids")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 4))
    return parser.parse_args()


if __name__ == "__main__":
    main()
