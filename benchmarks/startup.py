"""Start-up: a fresh Python process from nothing to the first token, seconds per phase.

Writes a checkpoint with random weights (kept when --folder names a place), reads it once so that the page cache is
warm, and starts a process that builds the engine and generates one token: first with no compiled kernels in the cache,
then with the one that the first left. --serve starts the real `loraplex serve` and polls /ready instead.

    python benchmarks/startup.py --shape 8b --shards 4 [--folder DIR] [--serve]
"""

import argparse
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from results_file import record

FILE = "startup.jsonl"
_READ_AT_ONCE = 64 * 2**20
_LONGEST_START = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m", "tiny"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is or goes")
    parser.add_argument("--serve", action="store_true", help="start `loraplex serve`, poll /ready")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(start_engine(args.child, args.device)), flush=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "model"
        written = prepare(folder, args.shape, args.dtype, args.shards)
        for kernels in ("compiled at start", "compiled before"):
            environment = {**os.environ, "TRITON_CACHE_DIR": str(Path(scratch) / "triton")}
            measure = time_serve if args.serve else time_engine
            phases = measure(folder, args.device, environment)
            report(args.shape, args.dtype, kernels, written, phases)


def prepare(folder: Path, shape: str, dtype: str, shards: int) -> int:
    """Make sure that a checkpoint is there and in the page cache; returns its bytes."""
    if not (folder / "config.json").exists():
        # In a process of its own: a CUDA context here would share the GPU with what is measured.
        code = (
            "import sys, time, torch; from pathlib import Path; "
            "from random_checkpoint import write_checkpoint; "
            "write_checkpoint(Path(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]), int(sys.argv[4]))"
        )
        command = [sys.executable, "-c", code, str(folder), shape, dtype, str(shards)]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
    files = sorted(folder.glob("*.safetensors"))
    start = time.perf_counter()
    with ThreadPoolExecutor(len(files)) as pool:
        written = sum(pool.map(_read_through, files))
    took = time.perf_counter() - start
    print(f"{written / 1e9:.1f} GB in {len(files)} files, read in {took:.1f} s", flush=True)
    return written


def _read_through(path: Path) -> int:
    buffer = memoryview(bytearray(_READ_AT_ONCE))
    total = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += count
    return total


def report(shape: str, dtype: str, kernels: str, written: int, phases: dict[str, float]) -> None:
    weights = phases.get("weights_s")
    record(
        FILE,
        {
            "benchmark": "startup",
            "shape": shape,
            "dtype": dtype,
            "kernels": kernels,
            "checkpoint_gb": round(written / 1e9, 2),
            "weights_gb_per_s": round(written / 1e9 / weights, 2) if weights else None,
            **{name: round(seconds, 2) for name, seconds in phases.items()},
        },
    )


def time_engine(folder: Path, device: str, environment: dict[str, str]) -> dict[str, float]:
    """Phases of a fresh process, and the seconds it took from its launch to its first token."""
    command = [sys.executable, __file__, "--child", str(folder), "--device", device]
    start = time.time()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    phases: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    ended = phases.pop("ended_at")
    return {"total_s": ended - start, **phases}


def start_engine(folder: Path, device: str) -> dict[str, float]:
    """Build an engine and generate one token; seconds per phase. Runs in the fresh process."""
    phases: dict[str, float] = {}

    def timed(name: str, call: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(call)
        def run(*args: object, **kwargs: object) -> object:
            begin = time.perf_counter()
            result = call(*args, **kwargs)
            phases[name] = phases.get(name, 0.0) + time.perf_counter() - begin
            return result

        return run

    timed("import_torch_s", _import_torch)()
    timed("import_engine_s", _import_engine)()
    timed("device_s", _wake_device)(device)
    from loraplex.engine import cuda_graphs, model_runner, piece_graphs, warm_up
    from loraplex.engine.config import EngineConfig
    from loraplex.engine.engine import Engine
    from loraplex.engine.lora_pool import LoRAPool
    from loraplex.engine.request import Request
    from loraplex.engine.sampling_params import SamplingParams

    # From outside, as the engine has no business with timing its own start.
    for owner, function, name in (
        (model_runner, "allocate", "allocate_s"),
        (model_runner, "load", "weights_s"),
        (LoRAPool, "__init__", "adapter_pool_s"),
        (model_runner, "rope_tables", "rope_s"),
        # Both begin with compiling, which is part of their time.
        (cuda_graphs.DecodeGraphs, "capture", "capture_s"),
        (piece_graphs.PieceGraphs, "prepare", "pieces_s"),
        (model_runner, "warm_up", "warm_up_s"),
        (cuda_graphs, "compile_ahead", "capture_compile_s"),
        (warm_up, "compile_ahead", "warm_up_compile_s"),
    ):
        if hasattr(owner, function):
            setattr(owner, function, timed(name, getattr(owner, function)))
    config = EngineConfig(model=folder, device=device)
    engine = timed("engine_s", lambda: Engine(config, NoAdapters()))()

    def first_token() -> None:
        params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
        engine.add(Request("first", tuple(range(2, 34)), params, None))
        outputs = []
        while engine.has_work():
            outputs += engine.step()
        assert sum(len(output.token_ids) for output in outputs) == 1, outputs

    timed("first_token_s", first_token)()
    phases["ended_at"] = time.time()
    return phases


def _import_torch() -> None:
    import torch  # noqa: F401


def _import_engine() -> None:
    import loraplex.engine.engine  # noqa: F401


def _wake_device(device: str) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available():
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()


class NoAdapters:
    """An `AdapterSource` that is never asked."""

    def request(self, handle: int) -> None:
        raise AssertionError(handle)

    def collect(self) -> list[object]:
        return []

    def wait(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.001))

    def release(self, handle: int) -> None:
        raise AssertionError(handle)


def time_serve(folder: Path, device: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds from the launch of `loraplex serve` until it answers and until it is ready."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as data:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        serve = ["-m", "loraplex", "serve", "--model", str(folder), "--device", device]
        command = [sys.executable, *serve, "--port", str(port), "--data-dir", data]
        start = time.perf_counter()
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            healthy = _wait_for(f"http://127.0.0.1:{port}/health", server) - start
            ready = _wait_for(f"http://127.0.0.1:{port}/ready", server) - start
        finally:
            server.terminate()
            server.wait()
    return {"total_s": ready, "http_s": healthy}


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> float:
    end = time.perf_counter() + _LONGEST_START
    while time.perf_counter() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return time.perf_counter()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within {_LONGEST_START:.0f} s")


if __name__ == "__main__":
    main()
