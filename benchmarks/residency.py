"""What many adapters in little memory cost, through the engine alone: random weights, adapters from pinned host memory.

Sections (--only):
`saturation`: decode step of a full batch in which every sequence has another adapter of S-LoRA's suites, against the
base step and the time that reading the adapters' bytes takes (goal: within 1.15 × of their sum).
`host`: first token of a request whose adapter is in host memory against one whose adapter is on the device (goal: 30 ms
more), while sequences decode; their inter-token gap with such loads against without (goal: p99 within 1.1 ×).
`cliff`: an arena of the KV that the run needs and 8 adapters; time to first token with 16 adapters against 8 (goal:
median within 1.2 ×).
`starvation`: 6 adapters, an arena of KV and 3 adapters, more requests than can be served: time to the last token, p99
over median (goal: under 3).

    python benchmarks/residency.py [--quick] [--only cliff ...]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapter_kinds import ATTENTION, SUITES
from engine_runs import load_adapters, run_batch
from residency_setting import QUICK, RANK, TINY, Plan, Setting
from serving_workloads import Item
from tight_memory import cliff, starvation
from timed_runs import Served, run_timed

from loraplex.platform.bench.report import percentile


def saturation(setting: Setting) -> None:
    plan = setting.plan
    for suite, ranks in SUITES.items():
        source = setting.source(ranks, ATTENTION)
        engine = setting.engine(source, None, plan.prompt + 2 * plan.batch + plan.output)
        handles = list(range(plan.batch))
        load_adapters(engine, handles)
        # The first sequence must not end before the last prompt is computed.
        output = plan.output + plan.batch * plan.prompt // engine.config.max_num_batched_tokens
        base = run_batch(engine, [None] * plan.batch, plan.prompt, output)
        own = run_batch(engine, handles, plan.prompt, output)
        floor_ms = 1000 * sum(map(source.bytes, handles)) / setting.read
        over = own.step_ms / (base.step_ms + floor_ms)
        setting.record(
            f"{suite}: {plan.batch} sequences, {plan.batch} adapters: step {base.step_ms:.2f} -> "
            f"{own.step_ms:.2f} ms, adapters' bytes {floor_ms:.2f} ms: {over:.3f} x (goal 1.15)",
            section="saturation",
            suite=suite,
            sequences=plan.batch,
            adapters=plan.batch,
            prompt=plan.prompt,
            base_step_ms=round(base.step_ms, 3),
            step_ms=round(own.step_ms, 3),
            floor_ms=round(floor_ms, 3),
            over_floor=round(over, 4),
            goal=1.15,
            met=over <= 1.15,
        )
        del engine, source
        setting.release()


def host(setting: Setting) -> None:
    plan = setting.plan
    source = setting.source((RANK,))
    stretch = plan.pause * plan.probes
    engine = setting.engine(source, None, setting.longest)
    load_adapters(engine, [0, 1])
    # More than both stretches take; what is left of them is stopped.
    tokens = setting.longest - 32
    streams = [Item(-1, 16, tokens, 0.0)] * plan.streams
    begin = 0.5
    # Equal requests in both stretches; in the second one each finds its adapter on the host only.
    probes = [
        Item(1 if at < plan.probes else 1 + at, 16, 4, begin + at * plan.pause)
        for at in range(2 * plan.probes)
    ]
    served = run_timed(engine, [*streams, *probes], "host", background=plan.streams)
    running, asked = served[: plan.streams], served[plan.streams :]
    warm, cold = _p50(asked[: plan.probes]), _p50(asked[plan.probes :])
    ends = (begin, begin + stretch, begin + 2 * stretch)
    calm, loading = (_gap_p99(running, *ends[at : at + 2]) for at in (0, 1))
    size = source.bytes(0)
    setting.record(
        f"adapter of {size / 1e6:.0f} MB in host memory: first token {1000 * warm:.1f} -> {1000 * cold:.1f} ms "
        f"({1000 * (cold - warm):+.1f}, goal 30); p99 gap of {plan.streams} sequences {1000 * calm:.2f} -> "
        f"{1000 * loading:.2f} ms (goal x 1.1)",
        section="host",
        adapter_bytes=size,
        streams=plan.streams,
        probes=plan.probes,
        resident_ttft_ms=round(1000 * warm, 2),
        ttft_ms=round(1000 * cold, 2),
        added_ms=round(1000 * (cold - warm), 2),
        goal_ms=30,
        gap_p99_ms=round(1000 * loading, 3),
        calm_gap_p99_ms=round(1000 * calm, 3),
        gap_growth=round(loading / calm - 1, 4),
        goal_growth=0.1,
        met=cold - warm <= 0.03 and loading <= 1.1 * calm,
    )


def _p50(served: Sequence[Served]) -> float:
    return statistics.median(s.first for s in served)


def _gap_p99(served: Sequence[Served], start: float, end: float) -> float:
    return percentile(sorted(gap for s in served for gap in s.gaps(start, end)), 0.99)


SECTIONS: dict[str, Callable[[Setting], None]] = {
    "saturation": saturation,
    "host": host,
    "cliff": cliff,
    "starvation": starvation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m", "tiny"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=600.0, help="start no section after this")
    args = parser.parse_args()
    plan = TINY if args.shape == "tiny" else QUICK if args.quick else Plan()
    end = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(args.shape, args.device, plan, Path(folder))
        for section in args.only:
            if time.monotonic() > end:
                print(f"out of time before {section}", flush=True)
                return
            SECTIONS[section](setting)
            setting.release()


if __name__ == "__main__":
    main()
