"""The benchmark of the management plane runs, on a database so small that nothing is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "management_load.py"

pytestmark = pytest.mark.e2e


def test_every_route_is_measured(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "LORAPLEX_RESULTS": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tenants", "3", "--adapters", "6", "--rows", "200",
         "--rate", "150", "--seconds", "1"],
        env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [
        json.loads(line) for line in (tmp_path / "management_load.jsonl").read_text().splitlines()
    ]
    everything = rows[-1]
    assert (everything["route"], everything["requests"]) == ("all", 150)
    assert everything["api_cpu_ms"] > 0
    assert sum(row["requests"] for row in rows[:-1]) == 150
    assert {row["route"] for row in rows} >= {"requests", "usage hour", "set alias"}
    assert [row["first_error"] for row in rows if row["errors"]] == []
