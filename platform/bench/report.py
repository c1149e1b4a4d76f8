"""Owns what a run of load amounts to: throughput, latencies, errors."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from loraplex.platform.bench.load import Outcome

# A first token later than this is worth nothing in S-LoRA's figures.
_LATEST_MS = 6000.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run measured; times in milliseconds.

    Attributes:
        requests: answered in full; `errors` were not.
        seconds: from the first request sent to the end of the last answer.
        ttft: to the first token. tpot: per token after the first, mean of a request. itl: between two arrivals.
        ttft_under_6s: share of all requests with a first token within 6 s, S-LoRA's attainment.
        satisfaction: S-LoRA's too: 1 at once, falling with the square of the time to 0 at 6 s and later; mean of all.
    """

    requests: int
    errors: int
    first_error: str | None
    seconds: float
    requests_per_s: float
    output_tokens: int
    output_tokens_per_s: float
    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    tpot_p50: float
    tpot_p90: float
    tpot_p99: float
    itl_p50: float
    itl_p90: float
    itl_p99: float
    ttft_under_6s: float
    satisfaction: float


def summarise(outcomes: Sequence[Outcome]) -> Report:
    """The report of all outcomes of a run, also if several processes made them."""
    timings = [outcome.timing for outcome in outcomes if outcome.timing is not None]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    ends = [outcome.sent + o.total for outcome in outcomes if (o := outcome.timing) is not None]
    seconds = max(ends) - min(outcome.sent for outcome in outcomes) if ends else math.nan
    tokens = sum(timing.tokens for timing in timings)
    ttft = sorted(1000 * timing.first for timing in timings)
    tpot = sorted(
        1000 * (timing.last - timing.first) / (timing.tokens - 1)
        for timing in timings
        if timing.tokens > 1
    )
    itl = sorted(1000 * gap for timing in timings for gap in timing.gaps)
    return Report(
        requests=len(timings),
        errors=len(errors),
        first_error=errors[0] if errors else None,
        seconds=seconds,
        requests_per_s=len(timings) / seconds,
        output_tokens=tokens,
        output_tokens_per_s=tokens / seconds,
        ttft_mean=fmean(ttft) if ttft else math.nan,
        ttft_p50=percentile(ttft, 0.5),
        ttft_p90=percentile(ttft, 0.9),
        ttft_p99=percentile(ttft, 0.99),
        tpot_p50=percentile(tpot, 0.5),
        tpot_p90=percentile(tpot, 0.9),
        tpot_p99=percentile(tpot, 0.99),
        itl_p50=percentile(itl, 0.5),
        itl_p90=percentile(itl, 0.9),
        itl_p99=percentile(itl, 0.99),
        ttft_under_6s=_share((value < _LATEST_MS for value in ttft), of=len(outcomes)),
        satisfaction=_share(
            (1 - min(value / _LATEST_MS, 1) ** 2 for value in ttft), of=len(outcomes)
        ),
    )


def _share(parts: Iterable[float], of: int) -> float:
    return sum(parts) / of if of else math.nan


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of `ordered` lie; not a number if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
