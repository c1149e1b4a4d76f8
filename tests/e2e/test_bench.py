"""`loraplex bench serve` measures a real server and reports its refusals."""

import json
import os
import subprocess
import sys

import pytest

from support.serve import Tenant

pytestmark = pytest.mark.e2e


def bench(tenant: Tenant, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LORAPLEX_URL": tenant.url, "LORAPLEX_API_KEY": tenant.key}
    command = [sys.executable, "-m", "loraplex", "bench", "serve", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_bench_counts_every_token(acme: Tenant) -> None:
    done = bench(
        acme, "--model", "zero", "--model", "one", "--requests", "6", "--concurrency", "3",
        "--prompt-tokens", "9", "--output-tokens", "5", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["requests"] == 6
    assert report["output_tokens_per_s"] * report["seconds"] == pytest.approx(30)
    assert 0 < report["ttft_p50"] <= report["ttft_p99"]


def test_bench_passes_a_refusal_on(acme: Tenant) -> None:
    done = bench(acme, "--model", "no-such-model", "--requests", "1")
    assert done.returncode == 1
    assert "model_not_found" in done.stderr
