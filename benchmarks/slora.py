"""S-LoRA's workload over HTTP, replayed exactly: adapters of one rank (S1) or of four (S2) on q, k, v and o, uniform
popularity, Poisson arrivals, greedy, no prefix cache. One server holds all adapters, each a database row of its own.

A run is SUITE:ADAPTERS[:SECONDS[:RATE]]; `sweep` raises the rate of a run until fewer than 99 % of all requests have
their first token within 6 s.

    python benchmarks/slora.py [--full]
    python benchmarks/slora.py --runs S1:5:120 S1:2000:120 --sweep S1:2000:25 --rates 20 40 60 80 100
    python benchmarks/slora.py --scale        # the demo model, shorter: runs anywhere within a minute
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from adapter_kinds import ATTENTION, SUITES, AdapterKind
from adapter_rows import AdapterRows
from load_processes import LoadProcesses
from results_file import record
from serving_server import BASE, TENANT, Target, counters, started, write_model
from serving_workloads import slora
from shapes import SHAPES

from loraplex.engine.model_config import ModelConfig
from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Shot
from loraplex.platform.bench.report import Report, summarise
from loraplex.platform.cli.client import ApiClient
from loraplex.platform.cli.push import Push, push_adapter
from loraplex.platform.cli.serve import serve
from loraplex.platform.demo.model_dir import demo_model_dir

ATTAINED = 0.99
# Throughput with any number of adapters against that with five.
GOAL_OF_FIVE = 0.97
_COUNTED = ("adapter_loads", "adapter_evictions", "preemptions")


@dataclass(frozen=True, slots=True)
class Run:
    """One trace: which adapters, how long, how many requests per second."""

    suite: str
    adapters: int
    seconds: float = 120.0
    rate: float = 10.0

    @classmethod
    def parse(cls, text: str) -> "Run":
        suite, adapters, *rest = text.split(":")
        if suite not in SUITES or not adapters.isdigit() or len(rest) > 2:
            raise argparse.ArgumentTypeError(f"{text}: write SUITE:ADAPTERS[:SECONDS[:RATE]]")
        return cls(suite, int(adapters), *map(float, rest))


# n = 5 first, then the largest n while hardly an adapter was loaded yet.
DEFAULT = ["S1:5:30", "S1:2000:30", "S1:100:30", "S1:1000:30"]
DEFAULT += ["S2:5:30", "S2:2000:30", "S2:100:30", "S2:1000:30"]
FULL = [run.replace("00:30", "00:120") if ":2000" in run else run for run in DEFAULT]
FULL = [run.replace(":5:30", ":5:120") for run in FULL]
SCALED = ["S1:5:6", "S1:500:6", "S2:500:6"]


class Bench:
    """A running server with all adapters of all suites."""

    def __init__(self, args: argparse.Namespace, target: Target, model: Path) -> None:
        self._args, self._target = args, target
        self._shape = "demo" if args.scale else args.shape
        self._throughput: dict[tuple[str, float, float], float] = {}  # of n = 5
        most = dict.fromkeys(SUITES, 0)
        for run in [*args.runs, *args.sweep]:
            most[run.suite] = max(most[run.suite], run.adapters)
        config = ModelConfig.from_directory(model)
        assert target.data is not None
        with ApiClient(target.url, target.operator) as api:
            tenants = {str(t["name"]): str(t["id"]) for t in api.pages("/api/v1/tenants")}
        rows = AdapterRows(target.data, UUID(tenants[TENANT]), BASE, config.fingerprint)
        kinds: dict[int, AdapterKind] = {}
        for suite, ranks in SUITES.items():
            if most[suite]:
                started = time.perf_counter()
                for rank in ranks:
                    kinds.setdefault(rank, AdapterKind(config, rank, ATTENTION))
                names = [f"{suite}-{number}".lower() for number in range(most[suite])]
                of_suite = [kinds[rank] for rank in ranks]
                # Of S2 the files must be others than those of S1, though some have the same rank.
                first = 0 if suite == "S1" else most["S1"]
                rows.add(names, of_suite, first)
                self._verify(names, of_suite, first)
                took = time.perf_counter() - started
                print(f"{len(names)} adapters of {suite} written in {took:.1f} s", flush=True)
        rows.close()

    def run(self, run: Run, clients: LoadProcesses) -> Report:
        """Replay one trace and record what came of it."""
        args = self._args
        items = slora(run.adapters, args.alpha, run.rate, args.cv, run.seconds)
        shots = [
            Shot(
                f"{run.suite.lower()}-{item.adapter}" if run.adapters else BASE,
                # A number in front: no two prompts have a block in common.
                (f"{number} {run.rate} {run.adapters} " if args.unique else "")
                + "Hello " * max(1, int(item.prompt * args.length_scale)),
                max(1, int(item.output * args.length_scale)),
                item.at,
            )
            for number, item in enumerate(items)
        ]
        before = self._counted()
        loaded = clients.open(shots)
        report = summarise(loaded.outcomes)
        after = self._counted()
        counted = {name: after[name] - before[name] for name in _COUNTED}
        # Of S-LoRA's wall time the wait for the first request is a part.
        throughput = report.requests / (report.seconds + items[0].at)
        ceiling = len(items) / items[-1].at
        key = (run.suite, run.seconds, run.rate)
        if run.adapters == 5:
            self._throughput[key] = throughput
        of_five = throughput / self._throughput[key] if key in self._throughput else None
        figures = {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(report).items()
        }
        record(
            "slora.jsonl",
            {
                "benchmark": "slora",
                "shape": self._shape,
                "suite": run.suite,
                "adapters": run.adapters,
                "rate": run.rate,
                "trace_s": run.seconds,
                "alpha": args.alpha,
                "cv": args.cv,
                "length_scale": args.length_scale,
                "prefix_cache": "never hit" if args.unique else "off",
                "throughput": round(throughput, 3),
                "ceiling": round(ceiling, 3),
                "of_five": None if run.adapters == 5 or of_five is None else round(of_five, 4),
                "models_used": len({shot.model for shot in shots}),
                **counted,
                **figures,
                "client_cpu_s": round(loaded.cpu_seconds, 2),
            },
            f"{run.suite} n={run.adapters:<5d}{run.rate:4g}/s {run.seconds:4g} s: {throughput:6.3f} req/s of "
            f"{ceiling:.3f}{'' if of_five is None else f' ({100 * of_five:.1f} % of n=5)'}, first token "
            f"mean {report.ttft_mean:.0f} p50 {report.ttft_p50:.0f} p90 {report.ttft_p90:.0f} p99 "
            f"{report.ttft_p99:.0f} ms, attained {100 * report.ttft_under_6s:.1f} %, satisfied "
            f"{report.satisfaction:.4f}, tpot {report.tpot_p50:.2f} ms, {report.output_tokens_per_s:.0f} tok/s, "
            f"{counted['adapter_loads']} loads, {report.errors} errors "
            f"{report.first_error or ''}",
        )
        return report

    def sweep(self, run: Run, rates: Sequence[float], clients: LoadProcesses) -> None:
        """Raise the rate until too many first tokens come late; record the highest rate that still does."""
        best = 0.0
        for rate in rates:
            if self.run(replace(run, rate=rate), clients).ttft_under_6s < ATTAINED:
                break
            best = rate
        record(
            "slora.jsonl",
            {
                "benchmark": "slora_sweep",
                "shape": self._shape,
                "suite": run.suite,
                "adapters": run.adapters,
                "trace_s": run.seconds,
                "rates": list(rates),
                "highest_rate": best,
            },
            f"{run.suite} n={run.adapters}: the highest of {list(rates)} requests/s with {ATTAINED:.0%} of first "
            f"tokens under 6 s is {best:g}",
        )

    def _counted(self) -> dict[str, int]:
        found = counters(self._target)
        return {name: int(found[f"{name}_total"]) for name in _COUNTED}

    def _verify(self, names: Sequence[str], kinds: Sequence[AdapterKind], first: int) -> None:
        """What was written past the API is what the API makes of the same file, and it can be served."""
        last = len(names) - 1
        kind = kinds[last % len(kinds)]
        with ApiClient(self._target.url, self._target.key) as api:
            with tempfile.TemporaryDirectory() as folder:
                kind.write(Path(folder), first + last)
                push = Push(Path(folder), f"{names[last]}-pushed", {})
                pushed = push_adapter(api, push)
            written = api.call("GET", f"/api/v1/adapters/{names[last]}/versions/1")
            for part in ("digest", "rank", "size"):
                assert written[part] == pushed[part], (part, written, pushed)
            for name in (names[0], names[last]):
                body = {"model": name, "prompt": "Hello", "max_tokens": 1}
                answer = api.call("POST", "/v1/completions", body=body)
                assert answer["object"] == "text_completion", answer


def main() -> None:
    args = _arguments()
    if args.scale:  # of a model this small a second thread would only get in the way
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        model = demo_model_dir() if args.scale else Path(folder)
        if not args.scale:
            write_model(model, args.shape, with_tokenizer=True)
        options = ["--device", args.device, *args.serve_option]
        args.unique = not any("--no-prefix-cache" in option.opts for option in serve.params)
        if not args.unique:
            options.append("--no-prefix-cache")
        load_format = "auto" if args.scale else "dummy"
        with started(model, options, load_format=load_format) as target:
            bench = Bench(args, target, model)
            with LoadProcesses(Address.of(target.url, target.key), args.processes) as clients:
                for run in args.runs:
                    bench.run(run, clients)
                for run in args.sweep:
                    bench.sweep(run, args.rates, clients)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="n = 5 and 2000 for 120 s, not 30")
    parser.add_argument("--scale", action="store_true", help="the demo model, shorter requests")
    parser.add_argument("--shape", default="8b", choices=list(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--serve-option", action="append", default=[], help="further of `serve`")
    parser.add_argument("--runs", type=Run.parse, nargs="*")
    parser.add_argument("--sweep", type=Run.parse, nargs="*")
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 40, 60, 80, 100])
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--cv", type=float, default=1.0)
    parser.add_argument("--length-scale", type=float, help="of prompts and answers")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 4))
    args = parser.parse_args()
    if args.runs is None:
        args.runs = list(map(Run.parse, SCALED if args.scale else FULL if args.full else DEFAULT))
    if args.sweep is None:
        args.sweep = [] if args.scale else [Run("S1", 2000, 25.0)]
    if args.length_scale is None:
        args.length_scale = 0.125 if args.scale else 1.0
    return args


if __name__ == "__main__":
    main()
