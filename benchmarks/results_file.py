"""Owns how results are recorded: one JSON object per line, with where and when it was measured."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def record(file: str, row: dict[str, object], line: str | None = None) -> None:
    """Append a row to `benchmarks/results/FILE` (or to the folder in LORAPLEX_RESULTS) and print it, or `line`."""
    stamped = {**row, **_where()}
    folder = Path(os.environ.get("LORAPLEX_RESULTS", RESULTS))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / file).open("a") as out:
        out.write(json.dumps(stamped) + "\n")
    print(json.dumps(row) if line is None else line, flush=True)


def _where() -> dict[str, object]:
    # Not above: tables and images of results are made without it, and a start is timed from before it.
    import torch

    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
    else:
        hardware = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return {
        "hardware": hardware,
        "torch": torch.__version__,
        "commit": os.environ.get("LORAPLEX_COMMIT") or _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU"
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
