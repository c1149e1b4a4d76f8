"""The benchmarks of many adapters run: on the CPU, with a shape so small that nothing is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(results: Path, script: str, *arguments: str) -> list[dict[str, object]]:
    """The rows that a script records."""
    environment = {
        **os.environ,
        "LORAPLEX_RESULTS": str(results),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--device", "cpu", *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (results / f"{script}.jsonl").read_text().splitlines()]


def test_residency_has_every_section(tmp_path: Path) -> None:
    rows = run(tmp_path, "residency", "--shape", "tiny")
    assert [row["section"] for row in rows] == [
        *["saturation"] * 2,
        "host",
        *["cliff"] * 2,
        "starvation",
    ]
    assert [row["adapters"] for row in rows if row["section"] == "cliff"] == [8, 16]
    (starved,) = [row for row in rows if row["section"] == "starvation"]
    assert isinstance(starved["over_median"], float)
    assert starved["over_median"] >= 1


@pytest.mark.e2e
def test_slora_replays_its_trace_over_rows_written_past_the_api(tmp_path: Path) -> None:
    """The script itself pushes one of these files through the API and compares what came of both."""
    five, many = run(tmp_path, "slora", "--scale", "--processes", "1", "--runs", "S1:5:1", "S2:9:1")
    for row, adapters in ((five, 5), (many, 9)):
        assert (row["adapters"], row["requests"], row["errors"]) == (adapters, 10, 0)
        assert isinstance(row["ttft_under_6s"], float)
        assert 0 <= row["ttft_under_6s"] <= 1
        assert isinstance(row["adapter_loads"], int)
        assert row["adapter_loads"] > 0


@pytest.mark.e2e
def test_cold_start_loads_every_adapter_once(tmp_path: Path) -> None:
    (row,) = run(
        tmp_path, "cold_start", "--shape", "tiny", "--streams", "2", "--probes", "3",
        "--pause", "0.05", "--prompt", "12", "--longest", "900", "--no-restart",
    )  # fmt: skip
    # The resident one, too.
    assert (row["source"], row["adapter_loads"]) == ("database", 4)
    assert isinstance(row["added_ms"], float)
