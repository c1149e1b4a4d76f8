"""Owns the images about the service. Each function returns None where nothing was measured."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from plot_points import BLUE, GREEN, GREY, ORANGE, Row, newest, number, where


def serving(rows: Sequence[Row]) -> Figure | None:
    """Tokens per second and time to first token of each workload through HTTP."""
    points = newest(rows, "serving", ("workload", "adapters", "concurrency", "rate"), shape="8b")
    if not points:
        return None
    labels = [_label(*key) for key in points]
    figure = Figure(figsize=(9, 0.4 * len(points) + 1.2))
    rate, first = figure.subplots(1, 2, sharey=True)
    places = range(len(labels))
    bars = rate.barh(
        places, [number(row, "output_tokens_per_s") for row in points.values()], 0.6, color=BLUE
    )
    rate.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    rate.set_yticks(places, labels, fontsize=8)
    rate.invert_yaxis()
    rate.set_xlabel("output tokens per second")
    for name, mark, color in (("p50", "o", GREEN), ("p90", "D", GREY), ("p99", "s", ORANGE)):
        values = [number(row, f"ttft_{name}") for row in points.values()]
        first.scatter(values, places, marker=mark, color=color, s=24, label=name)
    first.set_xscale("log")
    first.set_xlabel("time to first token, ms")
    first.grid(axis="x")
    first.legend(frameon=False, fontsize=8)
    figure.text(0.5, -0.04, f"8B shape; {where(points)}", ha="center", fontsize=8)
    figure.tight_layout()
    return figure


def service_overhead(rows: Sequence[Row]) -> Figure | None:
    """Tokens per second through HTTP streaming beside the engine alone."""
    points = newest(rows, "service_overhead", ("route", "clients", "adapters"), shape="8b")
    if not points:
        return None
    labels = [
        f"{route}\n{clients} clients, {adapters} adapters" for route, clients, adapters in points
    ]
    figure = Figure(figsize=(1.6 * len(points) + 1.5, 3.2))
    axes = figure.add_subplot()
    places = [float(at) for at in range(len(points))]
    for shift, name, color, label in (
        (-0.2, "alone_tokens_per_s", GREY, "engine alone"),
        (0.2, "http_tokens_per_s", BLUE, "through HTTP"),
    ):
        values = [number(row, name) for row in points.values()]
        axes.bar([place + shift for place in places], values, 0.4, color=color, label=label)
    for place, row in zip(places, points.values(), strict=True):
        top = max(number(row, "alone_tokens_per_s"), number(row, "http_tokens_per_s"))
        axes.text(place, top, f"{100 * number(row, 'ratio'):.0f} %", ha="center", va="bottom")
    axes.set_xticks(places, labels, fontsize=8)
    axes.set_ylabel("tokens per second")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    axes.set_title(f"8B shape; {where(points)}", fontsize=8, pad=14)
    return figure


def _label(workload: object, adapters: object, concurrency: object, rate: object) -> str:
    load = f"{rate} requests/s" if rate else f"{concurrency} at a time"
    return f"{workload}, {adapters} adapters, {load}"
