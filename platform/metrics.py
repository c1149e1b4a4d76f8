"""Owns the Prometheus metrics of a process, with the engines' numbers added at scrape time. Only operators read them:
they name tenants and adapters, though never more than a few."""

import os
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from loraplex.platform.engines.messages import Description, Tier
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.residency.names import AdapterName

Numbers = Mapping[str, Mapping[str, float]]  # by base model, then by name

_NOT_IN_METRIC = re.compile(r"[^a-zA-Z0-9_]")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Numbers of an engine that only grow while it lives; all others go up and down.
COUNTED = frozenset(
    {
        "adapter_loads",
        "adapter_evictions",
        "adapter_failures",
        "prompt_tokens",
        "cached_tokens",
        "output_tokens",
        "preemptions",
        "steps",
        "cache_loads",
        "cache_failures",
        "cache_hits",
        "cache_joins",
        "cache_load_seconds",
    }
)
_ADAPTER_LABELS = ("base_model", "tenant", "adapter", "version")
OTHER = ("", "other", "")  # no tenant is called ""


class Metrics:
    """The counters of this process, and on request those of all API workers with the engines' numbers."""

    def __init__(self, engine_numbers: Callable[[], Numbers]) -> None:
        self._registry = CollectorRegistry()
        self._engine_numbers = engine_numbers
        labels = ("method", "route", "status")
        self._requests = Counter(
            "loraplex_http_requests", "HTTP requests answered.", labels, registry=self._registry
        )
        self._seconds = self._histogram(
            "loraplex_http_request_seconds", "Time until the answer was complete.", labels[:2]
        )
        self._answers = Counter(
            "loraplex_answers",
            "Answers by how they ended.",
            ("base_model", "finish_reason"),
            registry=self._registry,
        )
        self._jobs = Counter(
            "loraplex_jobs",
            "Jobs in the background by how they ended.",
            ("kind", "state"),
            registry=self._registry,
        )
        self._garbage = Counter(
            "loraplex_garbage_removed",
            "Stored things removed because nothing refers to them.",
            ("kind",),
            registry=self._registry,
        )
        self._golden = Counter(
            "loraplex_golden_checks",
            "Golden prompts by what checking them found.",
            ("base_model", "result"),
            registry=self._registry,
        )
        self._first_token = self._histogram(
            "loraplex_time_to_first_token_seconds", "Time until an answer's first token."
        )
        self._queue = self._histogram(
            "loraplex_queue_seconds", "Time an answer waited though its adapter was there."
        )
        self._load = self._histogram(
            "loraplex_load_seconds", "Time an answer waited for its adapter, if it had to."
        )

    def observe_job(self, kind: str, state: str) -> None:
        """Count one job that ended."""
        self._jobs.labels(kind, state).inc()

    def observe_golden(self, base_model: str, result: str) -> None:
        """Count one golden prompt that was checked."""
        self._golden.labels(base_model, result).inc()

    def observe_garbage(self, kind: str, count: int) -> None:
        """Count what was removed because nothing refers to it."""
        self._garbage.labels(kind).inc(count)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def observe_answer(self, base_model: str, outcome: Outcome) -> None:
        """Count one answer."""
        self._answers.labels(base_model, outcome.finish_reason).inc()
        if outcome.first_token is not None:
            self._first_token.labels(base_model).observe(outcome.first_token)
        if outcome.timings is not None:
            self._queue.labels(base_model).observe(outcome.timings.queue)
            if outcome.timings.load:
                self._load.labels(base_model).observe(outcome.timings.load)

    def answers(self) -> dict[str, int]:
        """How many HTTP requests were answered with which status, by all API workers together."""
        found: Tally[str] = Tally()
        for family in self._gathered().collect():
            if family.name == "loraplex_http_requests":
                for sample in family.samples:
                    if sample.name == "loraplex_http_requests_total":
                        found[sample.labels["status"]] += int(sample.value)
        return dict(sorted(found.items()))

    def render(
        self, described: Mapping[str, Description], names: Mapping[str, AdapterName]
    ) -> bytes:
        """Everything in Prometheus' text format. `names` are by identity."""
        engines = CollectorRegistry()
        engines.register(
            _Families(
                [
                    *_engine_families(self._engine_numbers()),
                    *_tier_families(described),
                    *_adapter_families(described, names),
                ]
            )
        )
        return generate_latest(self._gathered()) + generate_latest(engines)

    def _gathered(self) -> CollectorRegistry:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        # Several API workers: each wrote its counters to a file, who asks adds them up.
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # ships partial types
        return registry

    def _histogram(
        self, name: str, meaning: str, labels: tuple[str, ...] = ("base_model",)
    ) -> Histogram:
        return Histogram(name, meaning, labels, buckets=_SECONDS, registry=self._registry)


class _Families(Collector):
    """Metrics that were read a moment ago."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families


def _engine_families(numbers: Numbers) -> Iterable[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for base, by_name in numbers.items():
        for name, value in by_name.items():
            if name not in families:
                kind = CounterMetricFamily if name in COUNTED else GaugeMetricFamily
                metric = f"loraplex_engine_{_NOT_IN_METRIC.sub('_', name)}"
                families[name] = kind(metric, f"{name} of an engine.", labels=["base_model"])
            families[name].add_metric([base], value)
    return families.values()


def _tier_families(described: Mapping[str, Description]) -> Iterable[Metric]:
    labels = ["base_model", "tier"]
    count = GaugeMetricFamily(
        "loraplex_adapters", "Adapters by the fastest tier they are in.", labels=labels
    )
    size = GaugeMetricFamily("loraplex_adapter_bytes", "What adapters take.", labels=labels)
    for base, description in described.items():
        tiers = Tally(state.tier for state in description.adapters)
        for tier in (Tier.DEVICE, Tier.LOADING, Tier.HOST, Tier.DISK):
            count.add_metric([base, tier], tiers[tier])
        size.add_metric([base, Tier.DEVICE], sum(s.device_bytes for s in description.adapters))
        size.add_metric([base, Tier.HOST], sum(s.host_bytes for s in description.adapters))
        size.add_metric([base, Tier.DISK], sum(s.disk_bytes for s in description.adapters))
    return count, size


def _adapter_families(
    described: Mapping[str, Description], names: Mapping[str, AdapterName]
) -> Iterable[Metric]:
    """One series for each of the adapters an engine has singled out, one for all others."""
    requests = CounterMetricFamily(
        "loraplex_adapter_requests", "Answers asked of an adapter.", labels=_ADAPTER_LABELS
    )
    prompt = CounterMetricFamily(
        "loraplex_adapter_prompt_tokens", "Prompt tokens of an adapter.", labels=_ADAPTER_LABELS
    )
    output = CounterMetricFamily(
        "loraplex_adapter_output_tokens", "Tokens written by an adapter.", labels=_ADAPTER_LABELS
    )
    running = GaugeMetricFamily(
        "loraplex_adapter_running", "Answers of an adapter at work.", labels=_ADAPTER_LABELS
    )
    waiting = GaugeMetricFamily(
        "loraplex_adapter_waiting", "Answers of an adapter that wait.", labels=_ADAPTER_LABELS
    )
    for base, description in described.items():
        rest = [0, 0]
        for state in description.adapters:
            name = names.get(state.identity)
            if state.series is None or name is None:
                rest[0] += state.running
                rest[1] += state.waiting
                continue
            labels = [base, name.tenant, name.adapter, str(name.version)]
            for family, value in zip((requests, prompt, output), state.series, strict=True):
                family.add_metric(labels, value)
            running.add_metric(labels, state.running)
            waiting.add_metric(labels, state.waiting)
        for family, value in zip((requests, prompt, output), description.other, strict=True):
            family.add_metric([base, *OTHER], value)
        running.add_metric([base, *OTHER], rest[0])
        waiting.add_metric([base, *OTHER], rest[1])
    return requests, prompt, output, running, waiting
