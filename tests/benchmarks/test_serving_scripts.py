"""The benchmarks of the service run: on the CPU, with a shape so small that nothing is measured."""

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


def test_serving_with_adapters_of_its_own(tmp_path: Path) -> None:
    (row,) = run(
        tmp_path, "serving", "--start", "--shape", "tiny", "--device", "cpu", "--adapters", "3",
        "--rank", "4", "--workload", "skewed", "--requests", "8", "--concurrency", "4",
        "--prompt-limit", "64", "--output-limit", "4",
    )  # fmt: skip
    assert (row["requests"], row["errors"], row["adapters"]) == (8, 0, 3)
    assert isinstance(row["output_tokens"], int)
    assert 8 * 2 <= row["output_tokens"] <= 8 * 4
