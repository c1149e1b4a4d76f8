"""Draws the images of the documentation from the recorded results, newest measurement of each point.

Text takes the reader's light or dark colour scheme. Needs matplotlib (extra `bench`).

    python benchmarks/plots.py [--output docs/images]
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import plot_adapters
import plot_engine
import plot_service
from matplotlib.figure import Figure
from plot_points import Row
from results_file import RESULTS
from summary import all_rows

# Stands for the colour of text until the file is written.
_INK = "#010203"
_STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
DRAWINGS: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
    "decode-steps": plot_engine.decode_steps,
    "lora-tax": plot_engine.added_time,
    "kernels": plot_engine.kernels,
    "startup": plot_engine.startup,
    "cpu-throughput": plot_engine.cpu_throughput,
    "serving": plot_service.serving,
    "service-overhead": plot_service.service_overhead,
    "slora": plot_adapters.slora,
    "cliff": plot_adapters.cliff,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images"
    )
    args = parser.parse_args()
    mpl.use("svg")
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "loraplex",  # the same results make the same file
            "font.family": "sans-serif",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            **{f"{part}.color": _INK for part in ("text", "xtick", "ytick", "grid")},
            **{f"axes.{part}color": _INK for part in ("edge", "label", "title")},
            "grid.alpha": 0.15,
            "axes.axisbelow": True,
        }
    )
    rows = all_rows(Path(os.environ.get("LORAPLEX_RESULTS", RESULTS)))
    args.output.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        figure = draw(rows)
        if figure is not None:
            save(figure, args.output / f"{name}.svg")
            print(args.output / f"{name}.svg")


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    text = path.read_text().replace(_INK, "currentColor")
    head = text.index(">", text.index("<svg")) + 1
    path.write_text(text[:head] + _STYLE + text[head:])


if __name__ == "__main__":
    main()
