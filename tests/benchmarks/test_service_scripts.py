"""The benchmarks of what the service path costs run: on the CPU, with a shape so small that nothing is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.e2e


def run(results: Path, script: str, *arguments: str) -> list[dict[str, object]]:
    """The rows that a script records."""
    environment = {
        **os.environ,
        "LORAPLEX_RESULTS": str(results),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--processes", "1", *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (results / f"{script}.jsonl").read_text().splitlines()]


def test_service_overhead_has_both_sides(tmp_path: Path) -> None:
    plain, chat = run(
        tmp_path, "service_overhead", "--shape", "tiny", "--device", "cpu", "--clients", "3",
        "--prompt", "20", "--output", "6", "--chat",
    )  # fmt: skip
    assert (plain["route"], chat["route"]) == ("completions", "chat")
    for row in (plain, chat):
        assert (row["requests"], row["errors"]) == (3, 0)
        assert isinstance(row["ratio"], float)


def test_service_cost_counts_processor_time(tmp_path: Path) -> None:
    (row,) = run(
        tmp_path, "service_cost", "--clients", "4", "--output", "50", "--step-ms", "5",
        "--api-workers", "2",
    )  # fmt: skip
    assert row["errors"] == 0
    assert isinstance(row["api_busy"], list)
    assert len(row["api_busy"]) == 2
