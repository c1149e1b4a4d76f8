"""Owns the images about many adapters. Each function returns None where nothing was measured."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from plot_points import BLUE, GREEN, GREY, ORANGE, Row, newest, number, where

# What the paper reports for its own system on one A100 with 80 GB, requests per second by number of adapters.
_PAPER = {
    "S1": {5: 8.05, 100: 7.99, 1000: 7.64, 2000: 7.61},
    "S2": {5: 7.48, 100: 7.29, 1000: 6.69, 2000: 6.71},
}


def slora(rows: Sequence[Row]) -> Figure | None:
    """Throughput and first tokens of S-LoRA's trace against the number of adapters, one column per suite."""
    points = newest(rows, "slora", ("suite", "adapters", "trace_s"), shape="8b", rate=10.0)
    suites = sorted({str(suite) for suite, _, _ in points})
    if not suites:
        return None
    # Of two lengths of a run the longer one counts.
    longest = {
        key[:2]: row
        for key, row in sorted(points.items(), key=lambda point: float(str(point[0][2])))
    }
    figure = Figure(figsize=(3.6 * len(suites) + 0.6, 5.2))
    for at, suite in enumerate(suites):
        of_suite = sorted((int(str(n)), row) for (name, n), row in longest.items() if name == suite)
        names = [str(n) for n, _ in of_suite]
        places = range(len(names))
        rate = figure.add_subplot(2, len(suites), 1 + at)
        values = [number(row, "throughput") for _, row in of_suite]
        bars = rate.bar(places, values, 0.6, color=BLUE, label="loraplex")
        rate.bar_label(bars, fmt="%.2f", label_type="center", color="white", fontsize=8)
        ceilings = [number(row, "ceiling") for _, row in of_suite]
        rate.scatter(places, ceilings, marker="_", s=500, color=GREY, label="all that arrives")
        paper = [_PAPER[suite].get(n) for n, _ in of_suite]
        known = [(place, value) for place, value in zip(places, paper, strict=True) if value]
        rate.scatter(
            *zip(*known, strict=True), marker="D", color=ORANGE, label="S-LoRA's paper, A100"
        )
        rate.set_xticks(places, names)
        rate.set_ylim(0, 1.2 * max(ceilings))
        rate.set_title(suite, fontsize=10)
        rate.grid(axis="y")
        first = figure.add_subplot(2, len(suites), 1 + len(suites) + at)
        for name, mark, color in (("p50", "o", GREEN), ("p90", "D", GREY), ("p99", "s", ORANGE)):
            times = [number(row, f"ttft_{name}") for _, row in of_suite]
            first.plot(places, times, marker=mark, color=color, label=name)
        first.set_xticks(places, names)
        first.set_ylim(0)
        first.set_xlabel("adapters")
        first.grid(axis="y")
        if at == 0:
            rate.set_ylabel("requests per second")
            first.set_ylabel("time to first token, ms")
            first.legend(frameon=False, fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=8)
    figure.text(0.5, -0.02, f"8B shape, 10 requests/s; {where(points)}", ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    return figure


def cliff(rows: Sequence[Row]) -> Figure | None:
    """First tokens with 8 and with 16 adapters where the memory beside the KV holds 8."""
    points = newest(rows, "residency", ("adapters",), section="cliff", shape="8b")
    if not points:
        return None
    figure = Figure(figsize=(4.2, 3))
    axes = figure.add_subplot()
    labels = [f"{adapters} adapters" for (adapters,) in points]
    for shift, name, color in ((-0.26, "p50", GREEN), (0.0, "p90", GREY), (0.26, "p99", ORANGE)):
        values = [number(row, f"ttft_{name}_ms") for row in points.values()]
        places = [place + shift for place in range(len(labels))]
        axes.bar_label(
            axes.bar(places, values, 0.24, color=color, label=name), fmt="%.0f", fontsize=8
        )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("time to first token, ms")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y")
    axes.set_title(f"Room for 8; 8B shape; {where(points)}", fontsize=8)
    return figure
