"""Every benchmark script runs: on the CPU, with a shape so small that nothing is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str, results: Path) -> str:
    environment = {**os.environ, "LORAPLEX_RESULTS": str(results), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(results: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (results / name).read_text().splitlines()]


def test_kernels(tmp_path: Path) -> None:
    run("kernel_times.py", "--shape", "tiny", "--quick", results=tmp_path)
    ops = {row["op"] for row in rows(tmp_path, "kernels.jsonl")}
    assert {"rms_norm", "add_rms_norm", "qkv_to_cache", "silu_mul"} <= ops
    assert {"linear qkv", "linear lm_head", "lora_linear gate_up"} <= ops
    assert {"attention decode", "attention prefill", "greedy sampling"} <= ops
    for row in rows(tmp_path, "kernels.jsonl"):
        assert isinstance(row["us"], float)
        assert row["us"] > 0, row


def test_lora_tax(tmp_path: Path) -> None:
    run("lora_tax.py", "--shape", "tiny", "--device", "cpu", results=tmp_path)
    found = rows(tmp_path, "lora_tax.jsonl")
    # Runs of other ranks are decode runs, too.
    assert {row["section"] for row in found} == {"loaded", "decode", "end_to_end", "prefill"}
    assert {row["rank"] for row in found if row["section"] == "decode"} == {
        "",
        "8",
        "16",
        "64",
        "128",
        "mixed",
    }
    with_adapters = [r for r in found if r["section"] == "decode" and r["adapters"]]
    assert all("added_us_per_layer" in row and "met" in row for row in with_adapters)


def test_startup(tmp_path: Path) -> None:
    run(
        *("startup.py", "--shape", "tiny", "--dtype", "float32", "--shards", "3"),
        *("--device", "cpu"),
        results=tmp_path,
    )
    first, second = rows(tmp_path, "startup.jsonl")
    assert (first["kernels"], second["kernels"]) == ("compiled at start", "compiled before")
    for row in (first, second):
        parts = [row[name] for name in ("import_torch_s", "engine_s", "first_token_s")]
        assert isinstance(row["total_s"], float)
        assert 0 < sum(float(str(part)) for part in parts) <= row["total_s"]


def test_summary(tmp_path: Path) -> None:
    """All recorded results make one table."""
    table = tmp_path / "summary.csv"
    run("summary.py", "--output", str(table), results=BENCHMARKS / "results")
    recorded = sum(
        len(path.read_text().splitlines()) for path in (BENCHMARKS / "results").glob("*.jsonl")
    )
    assert len(table.read_text().splitlines()) == recorded + 1


def test_plots(tmp_path: Path) -> None:
    """The recorded results can be drawn, the same file each time."""
    for folder in ("first", "second"):
        run("plots.py", "--output", str(tmp_path / folder), results=BENCHMARKS / "results")
    images = list((tmp_path / "first").glob("*.svg"))
    assert images
    for image in images:
        assert image.read_bytes() == (tmp_path / "second" / image.name).read_bytes(), image.name
