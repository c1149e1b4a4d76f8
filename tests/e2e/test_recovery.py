"""Processes that die: engines, API workers, the parent. And starts that cannot succeed."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from loraplex.platform.settings import Settings
from support.at_once import check_limits
from support.patience import PATIENCE_SECONDS
from support.serve import WAIT_SECONDS, Serve, Tenant

pytestmark = pytest.mark.e2e

ENGINE = "loraplex.platform.engines.worker"
API = "loraplex.platform.api_worker"
ENDLESS_TOKENS = 16000
ENDLESS = {"prompt": "Hello", "max_tokens": ENDLESS_TOKENS, "ignore_eos": True}


@pytest.fixture(scope="module")
def own(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server of this file alone, because its processes are killed; two API workers."""
    with Serve(model, tmp_path_factory.mktemp("own"), "--api-workers", "2") as serve:
        yield serve


@pytest.fixture(scope="module")
def tenant(own: Serve, adapters: list[Path]) -> Tenant:
    tenant = own.tenant("acme")
    assert tenant.push("one", adapters[1]).status_code == 201
    return tenant


async def test_two_hundred_at_once_never_exceed_a_limit(own: Serve) -> None:
    """Nothing is killed here; but it takes two workers. Every limit, four workers and PostgreSQL: `test_limits.py`."""
    settings = Settings(data_dir=own.log.parent)
    await check_limits(own, settings, ["requests_per_minute", "tokens_per_month"])


def test_an_engine_killed_in_mid_stream(own: Serve, tenant: Tenant) -> None:
    before = tenant.complete(model="one", prompt="Hello", temperature=0, max_tokens=8).json()
    killed_at = 0.0
    frames: list[str] = []
    body = {"model": "one", **ENDLESS, "stream": True}
    with tenant.http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line:
                frames.append(line)
            if len(frames) == 3 and not killed_at:
                own.kill(ENGINE)
                killed_at = time.monotonic()
    # By the closed connection, not because the engine is back or a client has lost patience.
    assert time.monotonic() - killed_at < 30
    error = json.loads(frames[-1].removeprefix("data: "))["error"]
    assert error == {
        "message": "The engine of 'org/tiny' stopped while working on this request.",
        "type": "server_error",
        "param": None,
        "code": "engine_unavailable",
    }
    # The next request waits for the new engine instead of failing, and gets the same answer as before.
    after = tenant.complete(model="one", prompt="Hello", temperature=0, max_tokens=8)
    assert after.status_code == 200
    assert after.json()["choices"] == before["choices"]
    assert "ended with signal 9; starting it again" in own.output()


def test_a_request_without_a_stream_survives_the_engine(own: Serve, tenant: Tenant) -> None:
    own.wait(own.is_idle)
    answers: list[httpx.Response] = []
    body = {"prompt": "Hello", "temperature": 0, "max_tokens": 1500, "ignore_eos": True}
    thread = threading.Thread(target=lambda: answers.append(tenant.complete(**body)))
    thread.start()
    own.wait(lambda: own.counter("running") == 1)
    own.kill(ENGINE)
    thread.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 1500
    assert answers[0].json()["choices"] == tenant.complete(**body).json()["choices"]


def test_an_api_worker_that_dies_takes_only_its_own_requests(own: Serve, tenant: Tenant) -> None:
    own.wait(own.is_idle)
    written = own.counter("output_tokens")
    with pytest.raises(httpx.TransportError):
        stream_until_workers_die(own, tenant)
    assert tenant.complete(prompt="Hello", max_tokens=2).status_code == 200
    own.wait(own.is_idle)
    # The engine noticed that nobody reads.
    assert own.counter("output_tokens") < written + ENDLESS_TOKENS


def stream_until_workers_die(own: Serve, tenant: Tenant) -> None:
    body = {"model": tenant.base, **ENDLESS, "stream": True}
    with tenant.http.stream("POST", "/v1/completions", json=body) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if number == 3:
                own.kill(API)


def test_a_batch_survives_its_api_workers(own: Serve, tenant: Tenant) -> None:
    """Killed, not ended; its lease is then taken for over, which would take a minute."""
    lines = []
    for n in range(24):
        body = {"model": "one", "prompt": f"Line {n}", "max_tokens": 4, "ignore_eos": True}
        if n >= 2:
            body["max_tokens"] = 200
        url = "/v1/completions"
        lines.append({"custom_id": str(n), "method": "POST", "url": url, "body": body})
    content = "\n".join(json.dumps(line) for line in lines).encode()
    with openai.OpenAI(api_key=tenant.key, base_url=f"{own.url}/v1") as client:
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
        )

        def through() -> int:
            counts = client.batches.retrieve(batch.id).request_counts
            return 0 if counts is None else counts.completed

        own.wait(lambda: through() >= 2)
        own.kill(API)
        with sqlite3.connect(own.log.parent / "loraplex.db", timeout=30) as database:
            # What a worker had written when it was killed, and what it had under way.
            kept = database.execute("SELECT count(*) FROM batch_result").fetchone()[0]
            database.execute("UPDATE job SET locked_until = '2000-01-01' WHERE kind = 'batch'")
        database.close()
        own.wait(lambda: client.batches.retrieve(batch.id).status == "completed")
        batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id is not None
        output = client.files.content(batch.output_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in output] == [str(n) for n in range(24)]
    assert 2 <= kept < 24
    database = sqlite3.connect(own.log.parent / "loraplex.db", timeout=30)
    try:
        query = "SELECT count(*) FROM ledger WHERE batch_id IS NOT NULL AND state = ?"
        own.wait(lambda: database.execute(query, ("reserved",)).fetchone() == (0,))
        (settled,) = database.execute(query, ("settled",)).fetchone()
    finally:
        database.close()
    # Recorded lines have one row; those under way may have two.
    assert 24 <= settled <= 24 + 16


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "config.json cannot be read: No such file or directory."),
        ("{", "config.json is not JSON"),
        ('{"model_type": "bert"}', "model_type 'bert' is not supported"),
    ],
)
def test_a_bad_model_directory_ends_the_start_with_a_sentence(
    tmp_path: Path, config: str | None, sentence: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    done = run_serve("--model", str(tmp_path), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_weights_end_the_start_with_a_sentence(model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    done = run_serve("--model", str(tmp_path), "--data-dir", str(tmp_path / "data"), "--port", "0")
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "safetensors" in done.stderr


def test_a_port_in_use_ends_the_start_with_a_sentence(
    own: Serve, model: Path, tmp_path: Path
) -> None:
    port = own.url.rsplit(":", 1)[1]
    done = run_serve("--model", str(model), "--data-dir", str(tmp_path), "--port", port)
    assert done.returncode == 1
    assert f"Error: Cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_a_data_directory_in_use_ends_the_start_with_a_sentence(own: Serve, model: Path) -> None:
    data_dir = own.log.parent
    done = run_serve("--model", str(model), "--data-dir", str(data_dir), "--port", "0")
    assert done.returncode == 1
    assert f"Error: Another loraplex serve uses {data_dir}" in done.stderr


def test_nothing_outlives_a_killed_parent(own: Serve) -> None:
    """The last test with this server."""
    parent = psutil.Process(own.process.pid)
    # The workers that an earlier test has killed are back.
    own.wait(lambda: len(parent.children(recursive=True)) == 4)
    children = parent.children(recursive=True)
    own.process.kill()
    own.process.wait()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_SECONDS)
    assert alive == []


def run_serve(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loraplex", "serve", "--device", "cpu", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
