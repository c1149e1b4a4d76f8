"""Owns the images about the engine and its kernels. Each function returns None where nothing was measured."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plot_points import BLUE, GREY, ORANGE, SHADES, Row, newest, number, where


def decode_steps(rows: Sequence[Row]) -> Figure | None:
    """Decode step against distinct adapters, one panel per batch size; the peer beside it."""
    ours = newest(
        rows, "lora_tax", ("sequences", "adapters"), section="decode", shape="8b", rank="16"
    ) | newest(rows, "lora_tax", ("sequences", "adapters"), section="decode", shape="8b", rank="")
    if not ours:
        return None
    peer = newest(rows, "peer_vllm", ("sequences", "adapters", "slots"), flags="defaults")
    fastest = newest(rows, "peer_vllm", ("sequences", "adapters", "slots"), flags="fastest")
    batches = [n for n in (1, 32, 128, 256) if any(key[0] == n for key in ours)]
    figure = Figure(figsize=(2.6 * len(batches) + 1, 3.4))
    for at, batch in enumerate(batches):
        axes = figure.add_subplot(1, len(batches), at + 1)
        shown = sorted({int(str(key[1])) for key in ours if key[0] == batch})
        place = {count: index for index, count in enumerate(shown)}
        steps = [number(ours[batch, count], "step_ms") for count in shown]
        axes.bar(list(place.values()), steps, 0.6, color=BLUE, label="loraplex")
        for points, mark, label in (
            (peer, "D", "vLLM 0.26"),
            (fastest, "v", "vLLM, its fastest flags"),
        ):
            at_point = [
                (place[int(str(key[1]))], number(row, "step_ms"))
                for key, row in points.items()
                if key[0] == batch and key[1] in place
            ]
            if at_point:
                axes.scatter(*zip(*at_point, strict=True), marker=mark, color=ORANGE, label=label)
        axes.set_xticks(list(place.values()), [str(count) for count in shown])
        axes.set_title(f"{batch} sequences" if batch > 1 else "1 sequence", fontsize=10)
        axes.set_xlabel("distinct adapters")
        axes.set_ylim(0)
        axes.grid(axis="y")
        if at == 0:
            axes.set_ylabel("decode step, ms")
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="upper center", ncols=3, frameon=False)
    figure.text(
        0.5, -0.02, f"8B shape, rank 16, all linears; {where(ours)}", ha="center", fontsize=8
    )
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    return figure


def added_time(rows: Sequence[Row]) -> Figure | None:
    """Time that adapters add to a layer against the floor of their bytes, all ranks."""
    points = newest(
        rows, "lora_tax", ("sequences", "adapters", "rank"), section="decode", shape="8b"
    )
    points = {key: row for key, row in points.items() if row["adapters"]}
    if not points:
        return None
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    floors = [number(row, "floor_us_per_layer") for row in points.values()]
    # Many points, as the goal is no straight line where both axes are logarithmic.
    line = [min(floors) * (max(floors) / min(floors)) ** (at / 50) for at in range(51)]
    axes.plot(line, line, color=GREY, label="floor: the adapters' bytes")
    axes.plot(line, [1.5 * f + 8 for f in line], color=GREY, ls="--", label="goal: 1.5 x + 8 us")
    for color, rank in zip(SHADES, ("8", "16", "64", "128", "mixed"), strict=False):
        own = [row for key, row in points.items() if key[2] == rank]
        if not own:
            continue
        axes.scatter(
            [number(row, "floor_us_per_layer") for row in own],
            [max(number(row, "added_us_per_layer"), 0.1) for row in own],
            s=22,
            color=color,
            label=f"rank {rank}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("floor, us per layer")
    axes.set_ylabel("added to a decode step, us per layer")
    axes.grid(which="both")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"8B shape; {where(points)}", fontsize=8)
    return figure


def kernels(rows: Sequence[Row]) -> Figure | None:
    """Share of the bandwidth or FLOP ceiling that each operation reaches."""
    points = newest(rows, "kernels", ("op", "size"), shape="8b")
    if not points:
        return None
    labels = [f"{op}, {size}" for op, size in points]
    shares = [100 * number(row, "share_of_ceiling") for row in points.values()]
    colors = [BLUE if row["bound_by"] == "bytes" else ORANGE for row in points.values()]
    figure = Figure(figsize=(7, 0.2 * len(points) + 1))
    axes = figure.add_subplot()
    _bars(axes, labels, shares, colors)
    for color, label in ((BLUE, "read bandwidth"), (ORANGE, "matrix products")):
        axes.barh([0], [0], color=color, label=f"of measured {label}")
    axes.set_xlim(0, max(100, *shares))
    axes.set_xlabel("% of the ceiling")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set_title(f"8B shape; {where(points)}", fontsize=8)
    return figure


def startup(rows: Sequence[Row]) -> Figure | None:
    """Seconds per phase from nothing to the first token."""
    points = newest(rows, "startup", ("kernels",), shape="8b")
    if not points:
        return None
    phases = {
        "import_torch_s": "import torch",
        "import_engine_s": "import the engine",
        "device_s": "CUDA context",
        "weights_s": "weights",
        "capture_s": "kernels and graphs",
        "first_token_s": "first token",
    }
    figure = Figure(figsize=(7, 1.8))
    axes = figure.add_subplot()
    labels = [f"kernels {key[0]}" for key in points]
    left = [0.0] * len(points)
    for color, (name, label) in zip(SHADES, phases.items(), strict=False):
        widths = [float(str(row.get(name) or 0)) for row in points.values()]
        axes.barh(labels, widths, 0.6, left=left, color=color, label=label)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    rest = [number(row, "total_s") - used for row, used in zip(points.values(), left, strict=True)]
    axes.barh(labels, rest, 0.6, left=left, color=GREY, alpha=0.5, label="the rest")
    axes.set_xlabel("seconds")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.45, 1.5))
    figure.text(0.5, -0.25, f"8B shape; {where(points)}", ha="center", fontsize=8)
    return figure


def cpu_throughput(rows: Sequence[Row]) -> Figure | None:
    """Decode tokens per second on a CPU beside transformers + PEFT."""
    points = newest(rows, "cpu_throughput", ("model",))
    if not points:
        return None
    figure = Figure(figsize=(3.2 * len(points), 3))
    parts = {
        "peft_tokens_per_s": "PEFT",
        "loraplex_tokens_per_s": "loraplex",
        "bare_gemm_tokens_per_s": "bare products",
    }
    for at, (key, row) in enumerate(points.items()):
        axes = figure.add_subplot(1, len(points), at + 1)
        values = [number(row, name) for name in parts]
        bars = axes.bar(list(parts.values()), values, 0.6, color=[ORANGE, BLUE, GREY])
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_title(str(key[0]), fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        if at == 0:
            axes.set_ylabel("tokens per second")
    figure.text(0.5, -0.04, where(points), ha="center", fontsize=8)
    figure.tight_layout()
    return figure


def _bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], colors: Sequence[str]
) -> None:
    bars = axes.barh(range(len(labels)), values, 0.7, color=colors)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.margins(y=0.01)
