"""The way of an adapter to the host: rank 16 on every linear of an 8B Llama (84 MB) from database, disk and host memory
through a real loader process, and the stages it is made of; with a GPU also page-locking and the copy to it.

    python benchmarks/load_path.py [--postgres | --database-url URL] [--rank 16] [--adapters 6] [--record]

Without a database named it is SQLite in a temporary folder; --postgres starts the server that the tests run on.
"""

import argparse
import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from results_file import record
from shapes import write_config

from loraplex.adapters.packing import pack
from loraplex.adapters.reading import AdapterRef
from loraplex.adapters.recipes import Recipes
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import ModelConfig, Module
from loraplex.platform.db.blobs import CHUNK_SIZE, DatabaseBlobs
from loraplex.platform.db.database import open_database
from loraplex.platform.db.loader_blobs import LoaderBlobs
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.db.models import Blob, BlobState, Tenant
from loraplex.platform.engines.loader_client import LoaderClient
from loraplex.platform.engines.pinning import pin_in_background
from loraplex.platform.settings import Settings

FILE = "load_path.jsonl"
DTYPE = torch.bfloat16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", default="")
    parser.add_argument("--postgres", action="store_true", help="start a server from the wheel")
    parser.add_argument("--shape", default="8b", choices=["8b", "100m", "tiny"])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=6, help="loads per figure")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres()) if args.postgres else args.database_url
        settings = Settings(data_dir=folder / "data", database_url=url)
        base = write_config(folder / "base", args.shape, "bfloat16")
        modules = [m for m in ModelConfig.from_directory(base).modules() if ".layers." in m.name]
        data = adapter_file(modules, args.rank)
        ref = asyncio.run(store(settings, base, args.rank, data))
        kind = "postgresql" if "postgres" in url else "sqlite"
        row: dict[str, object] = {
            "benchmark": "load_path",
            "database": kind,
            "shape": args.shape,
            "rank": args.rank,
            "mb": round(len(data) / 1e6, 1),
        }
        row |= stages(settings, base, ref, data, args.adapters)
        row |= tiers(settings, base, ref, args.adapters)
        for name, value in row.items():
            print(f"{name:28} {value}", flush=True)
        if args.record:
            record(FILE, row)


def stages(
    settings: Settings, base: Path, ref: AdapterRef, data: bytes, times: int
) -> dict[str, object]:
    """Milliseconds of each part of a load by itself, best of several."""
    torch.set_num_threads(1)
    recipes = Recipes(ModelConfig.from_directory(base).modules(), DTYPE)
    buffer = torch.zeros(len(data) * 2 + 2**23, dtype=torch.uint8)
    door = LoaderBlobs.open(settings)

    def pack_it() -> None:
        pieces = (data[at : at + CHUNK_SIZE] for at in range(0, len(data), CHUNK_SIZE))
        pack(pieces, ref.config, ref.weights_sha256, recipes, lambda size: buffer[:size])

    parts: dict[str, Callable[[], object]] = {
        "stage_database_ms": lambda: sum(map(len, door.read(ref.weights_sha256))),
        "stage_hash_ms": lambda: hashlib.sha256(data).digest(),
        "stage_pack_and_hash_ms": pack_it,
    }
    best: dict[str, object] = {
        name: round(1e3 * min(_seconds(part) for _ in range(times)), 1)
        for name, part in parts.items()
    }
    door.close()
    return best


def tiers(settings: Settings, base: Path, ref: AdapterRef, times: int) -> dict[str, object]:
    """Milliseconds from the request to the collected weights, by where the adapter was; median and worst."""
    # Room for all but two, so that the last loads have to make some.
    capacity = max(1, times - 2) * (ref.size + 2**23)
    with loader(settings, base, capacity) as client:
        device = _pin(client)
        for handle in range(4 * times):
            client.register(handle, replace(ref, identity=f"tenant/{handle}"))
        load(client, 4 * times - 1)  # connects to the database
        result: dict[str, object] = dict(device)
        before = _cpu_seconds(client)
        cold = []
        for handle in range(times):
            cold.append(load(client, handle)[0])
            # The file of the one before is written for some time after its adapter was served.
            _settle(client, handle + 2)
        result |= _figures("database", cold)
        # On a busy machine this says more than the clock.
        result["database_cpu_ms"] = round(1e3 * (_cpu_seconds(client) - before) / times, 1)
        result |= _figures("host", [load(client, times - 1)[0] for _ in range(times)])
        # In the order they were brought: the host has only the last ones.
        result |= _figures("disk", [load(client, handle)[0] for handle in range(2)])
        together = range(times, times + 4)
        started = time.perf_counter()
        for handle in together:
            client.request(handle)
        _collect(client, len(together))
        result["four_together_ms"] = round(1e3 * (time.perf_counter() - started), 1)
        if torch.cuda.is_available():
            result |= copies(client, times - 1)
        result["collect_idle_us"] = round(
            min(_seconds(lambda: [client.collect() for _ in range(1000)]) for _ in range(5)) * 1e3,
            2,
        )
        return result


def copies(client: LoaderClient, handle: int) -> dict[str, object]:
    """Host to device, as the pool copies: one run of pages."""
    client.request(handle)
    (weights,) = _collect(client, 1, release=False)
    target = torch.empty(weights.buffer.numel(), dtype=DTYPE, device="cuda")
    stream = torch.cuda.Stream()
    took, called = [], []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        with torch.cuda.stream(stream):
            target.copy_(weights.buffer, non_blocking=True)
        called.append(time.perf_counter() - started)
        stream.synchronize()
        took.append(time.perf_counter() - started)
    assert torch.equal(target.cpu(), weights.buffer)
    client.release(handle)
    best = min(took)
    return {
        "copy_pinned": bool(weights.buffer.is_pinned()),
        "copy_ms": round(1e3 * best, 2),
        "copy_gb_per_s": round(weights.buffer.nbytes / best / 1e9, 1),
        "copy_call_us": round(1e6 * min(called), 1),
    }


def load(client: LoaderClient, handle: int) -> tuple[float, LoRAWeights]:
    """Seconds until one adapter is there."""
    started = time.perf_counter()
    client.request(handle)
    (weights,) = _collect(client, 1)
    return time.perf_counter() - started, weights


def _collect(client: LoaderClient, count: int, *, release: bool = True) -> list[LoRAWeights]:
    found: list[LoRAWeights] = []
    while len(found) < count:
        client.wait(1.0)
        for result in client.collect():
            assert result.weights is not None, result.error
            found.append(result.weights)
            if release:
                client.release(result.handle)
    return found


def _settle(client: LoaderClient, files: int) -> None:
    """Until the disk has what was loaded."""
    deadline = time.monotonic() + 60
    while client.stats().disk_entries < files and time.monotonic() < deadline:
        client.wait(0.2)


def _pin(client: LoaderClient) -> dict[str, object]:
    if not torch.cuda.is_available():
        return {}
    torch.zeros(1, device="cuda")
    memory = client.memory
    seconds = _seconds(
        pin_in_background(memory.region[: memory.capacity], torch.device("cuda", 0)).join
    )
    gib = memory.capacity / 2**30
    return {"pinned_gib": round(gib, 2), "pin_s_per_gib": round(seconds / gib, 2)}


def _cpu_seconds(client: LoaderClient) -> float:
    """Of the loader process until now, all threads."""
    fields = Path(f"/proc/{client.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _figures(name: str, seconds: list[float]) -> dict[str, object]:
    return {
        f"{name}_ms": round(1e3 * statistics.median(seconds), 1),
        f"{name}_worst_ms": round(1e3 * max(seconds), 1),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def loader(settings: Settings, base: Path, capacity: int) -> Iterator[LoaderClient]:
    """A loader process, ended in order."""
    client = LoaderClient(settings.to_json(), str(base), DTYPE, capacity)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    from support.postgres import Postgres  # with the tests on the path

    with tempfile.TemporaryDirectory(prefix="loraplex-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(folder)
        try:
            yield server.new_database()
        finally:
            server.stop()


def adapter_file(modules: list[Module], rank: int) -> bytes:
    """A safetensors file with random values for every module."""
    torch.manual_seed(0)
    tensors = {}
    for module in modules:
        name = f"base_model.model.{module.name}.lora"
        tensors[f"{name}_A.weight"] = torch.randn(rank, module.in_features).to(DTYPE)
        tensors[f"{name}_B.weight"] = torch.randn(module.out_features, rank).to(DTYPE)
    return safetensors.torch.save(tensors)


async def store(settings: Settings, base: Path, rank: int, data: bytes) -> AdapterRef:
    """Put the file into an empty database."""
    config = (
        f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {2 * rank}, "target_modules": null}}'
    )
    inspector = UploadInspector(config.encode(), ModelConfig.from_directory(base).modules())
    inspector.feed(data)
    report = inspector.finish()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = open_database(settings)
    await upgrade(database)
    tenant = Tenant(name="benchmark")
    async with database.main.writing() as session:
        session.add(tenant)
        await session.flush()
        blob = Blob(
            tenant_id=tenant.id,
            sha256=report.weights_sha256,
            size=len(data),
            state=BlobState.READY,
        )
        session.add(blob)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), CHUNK_SIZE):
            yield data[at : at + CHUNK_SIZE]

    await DatabaseBlobs(database.weights).append(blob.id, pieces())
    await database.close()
    return AdapterRef("", report.weights_sha256, len(data), report.canonical_config)


if __name__ == "__main__":
    main()
