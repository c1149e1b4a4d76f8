"""How much of a steady decode step the GPU idles: time in which no kernel and no copy runs, from a profile.

The profiler sees every kernel of a CUDA graph. It also slows steps down a little, so the step is timed without it too.
Gaps between kernels that follow each other inside a graph are idle time as well; `host_share` is what lies in gaps
longer than any of those, where the GPU waited for the host.

    python benchmarks/idle_share.py --shape 8b --sequences 1 32 128 --adapters 0 32
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from random_adapters import RandomAdapters
from results_file import record
from shapes import write_config
from throughput import decode_steps, start_decoding
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype

STEPS = 20
# Microseconds. Between kernels of a graph lie 1 to 3.
HOST_GAP = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m"])
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--adapters", type=int, nargs="+", default=[0, 32])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=320, help="tokens per prompt")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_config(Path(folder), args.shape, "bfloat16")
        model = ModelConfig.from_directory(path)
        device = resolve_device("cuda")
        source = RandomAdapters(model, (args.rank,), resolve_dtype("auto", model, device), pin=True)
        config = EngineConfig(
            model=path,
            load_format="dummy",
            max_model_len=args.prompt + 4 * STEPS,
            enable_prefix_cache=False,
        )
        engine = Engine(config, source)
        for sequences in args.sequences:
            for adapters in args.adapters:
                if adapters <= sequences:
                    measure(engine, sequences, adapters, args)


def measure(engine: Engine, sequences: int, adapters: int, args: argparse.Namespace) -> None:
    start_decoding(engine, sequences, adapters, args.prompt, 3 * STEPS)
    plain = statistics.median(decode_steps(engine, sequences, STEPS))
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        profiled = statistics.median(decode_steps(engine, sequences, STEPS))
        torch.cuda.synchronize()
    for number in range(sequences):
        engine.abort(str(number))
    busy = merge(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA
    )
    # The first and the last step are not whole.
    first, last = busy[0][0], busy[-1][1]
    cut = (last - first) / STEPS
    idle, waiting = gaps(busy, first + cut, last - cut)
    record(
        "idle_share.jsonl",
        {
            "benchmark": "idle_share",
            "shape": args.shape,
            "sequences": sequences,
            "adapters": adapters,
            "rank": args.rank if adapters else 0,
            "prompt": args.prompt,
            "step_ms": round(1000 * plain, 3),
            "profiled_step_ms": round(1000 * profiled, 3),
            "idle_share": round(idle, 4),
            "host_share": round(waiting, 4),
        },
    )


def merge(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The union of (start, end) spans, ascending."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def gaps(busy: list[tuple[float, float]], begin: float, end: float) -> tuple[float, float]:
    """Shares of the microseconds from `begin` to `end` that lie in gaps of any length, and in long ones."""
    found = [
        min(later[0], end) - max(earlier[1], begin)
        for earlier, later in itertools.pairwise(busy)
        if later[0] > begin and earlier[1] < end
    ]
    total = end - begin
    return sum(found) / total, sum(gap for gap in found if gap > HOST_GAP) / total


if __name__ == "__main__":
    main()
