"""Processor time of the service path per token, process by process, without a model: a stand-in engine gives every
stream a token per step, real API workers turn them into server-sent events, clients read them over TCP.

    python benchmarks/service_cost.py --clients 256 --step-ms 13 --api-workers 1 4 [--chat]
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from load_processes import LoadProcesses
from paced_engine import run_engine
from results_file import record
from serving_server import cpu_seconds, write_model

from loraplex.platform.bench.connection import Address
from loraplex.platform.bench.load import Shot
from loraplex.platform.bench.report import summarise
from loraplex.platform.cli.client import ApiClient
from loraplex.platform.engines.process import ApiLaunch, ModelEndpoint
from loraplex.platform.listening import open_listeners
from loraplex.platform.settings import ServedModel, Settings

_BASE = "base"
_OPERATOR = "lpx-benchmark-operator-key"


def main() -> None:
    args = _arguments()
    for workers in args.api_workers:
        with tempfile.TemporaryDirectory(prefix="lpx-") as folder:
            measure(args, workers, Path(folder))


def measure(args: argparse.Namespace, workers: int, folder: Path) -> None:
    """Two rounds with one number of API workers: the first warms up, the second is recorded."""
    model = write_model(folder / "model", "tiny", with_tokenizer=True)
    settings = Settings(
        data_dir=folder, models=(ServedModel(model, _BASE),), bootstrap_key=_OPERATOR
    )
    prepare = [sys.executable, "-m", "loraplex.platform.prepare"]
    subprocess.run(
        prepare, input=settings.to_json().encode(), stdout=subprocess.DEVNULL, check=True
    )
    endpoint = f"ipc://{folder}/engine"
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    engine = spawn.Process(target=run_engine, args=(endpoint, args.step_ms / 1000, theirs))
    engine.start()
    theirs.close()  # so that the end of the engine is seen
    launch = [ModelEndpoint(_BASE, str(model), endpoint)]
    with _api_workers(workers, settings, launch) as (url, pids):
        key = _tenant_key(url)
        with LoadProcesses(Address.of(url, key), args.processes) as clients:
            clients.closed(_shots(args, 4), args.clients)
            before = [cpu_seconds(pid) for pid in pids]
            loaded = clients.closed(_shots(args, args.output), args.clients)
            used = [cpu_seconds(pid) - old for pid, old in zip(pids, before, strict=True)]
    ours.send("stop")
    loop_seconds, made = ours.recv()
    engine.join()
    report = summarise(loaded.outcomes)
    per_token = 1e6 / max(report.output_tokens, 1)
    record(
        "service_cost.jsonl",
        {
            "benchmark": "service_cost",
            "route": "chat" if args.chat else "completions",
            "clients": args.clients,
            "step_ms": args.step_ms,
            "api_workers": workers,
            "errors": report.errors,
            "first_error": report.first_error,
            "ideal_tokens_per_s": round(1000 * args.clients / args.step_ms),
            "tokens_per_s": round(report.output_tokens_per_s),
            "api_us_per_token": round(sum(used) * per_token, 1),
            "api_busy": [round(seconds / report.seconds, 2) for seconds in used],
            "engine_loop_us_per_token": round(1e6 * loop_seconds / max(made, 1), 2),
            "client_us_per_token": round(loaded.cpu_seconds * per_token, 1),
            "ttft_p50_ms": round(report.ttft_p50, 1),
            "ttft_p99_ms": round(report.ttft_p99, 1),
            "itl_p50_ms": round(report.itl_p50, 2),
            "itl_p99_ms": round(report.itl_p99, 2),
        },
    )


@contextmanager
def _api_workers(
    count: int, settings: Settings, models: list[ModelEndpoint]
) -> Iterator[tuple[str, list[int]]]:
    """The workers as `serve` starts them; the service's URL and their process ids."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in open_listeners("127.0.0.1", 0, count)]
        started = [_start_worker(settings, models, listener.fileno()) for listener in listeners]
        processes = [process for process, _ in started]
        try:
            for _, reports in started:
                answer = json.loads(os.read(reports, 4096) or b'{"kind": "ended"}')
                assert answer["kind"] == "ready", answer
                os.close(reports)
            port = listeners[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}", [process.pid for process in processes]
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _start_worker(
    settings: Settings, models: list[ModelEndpoint], socket_fd: int
) -> tuple["subprocess.Popen[bytes]", int]:
    """The process, and where it reports that it is ready."""
    reports, child_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "loraplex.platform.api_worker"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(child_end, socket_fd),
    )
    os.close(child_end)
    assert process.stdin is not None
    order = ApiLaunch(settings.to_json(), models, socket_fd, child_end)
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    process.stdin.flush()
    return process, reports


def _tenant_key(url: str) -> str:
    with ApiClient(url, _OPERATOR) as api:
        api.call("POST", "/api/v1/tenants", body={"name": "bench"})
        made = api.call("POST", "/api/v1/tenants/bench/keys", body={"name": "load"})
    time.sleep(1)  # the workers' connections to the engine
    return str(made["key"])


def _shots(args: argparse.Namespace, tokens: int) -> list[Shot]:
    prompt = tuple(3 + i % 200 for i in range(args.prompt))
    text = "Hello, this is a question of some length, as people ask them."
    return [Shot(_BASE, text if args.chat else prompt, tokens, chat=args.chat)] * args.clients


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--step-ms", type=float, default=13.0)
    parser.add_argument("--output", type=int, default=200)
    parser.add_argument("--prompt", type=int, default=320, help="tokens, of completions")
    parser.add_argument("--api-workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 4))
    return parser.parse_args()


if __name__ == "__main__":
    main()
