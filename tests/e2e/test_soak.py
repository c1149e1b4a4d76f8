"""Thousands of requests over hundreds of adapters of several tenants while everything changes and nothing has room:
every answer is the oracle's, and at the end nothing is lost and nothing is left.

The whole service runs in one process (real sockets, real engine, real database), so that the end can be looked at.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from loraplex.engine.config import EngineConfig
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.loader import NEWS_SECONDS
from support.adapter_files import config_json, lora_tensors, weights_bytes
from support.checkpoints import tiny_model
from support.merged_oracle import MergedOracle
from support.services import OPERATOR, bearer
from support.soak_load import Content, Name, SoakLoad, push
from support.whole_service import WholeService

pytestmark = pytest.mark.e2e

PAGE = 2 * 1024 * 1024
ALPHA_PER_RANK = 4
PROMPT, TOKENS = 20, 6
# Of about 1,100 in all. A lost page of host or device memory would be 2 MiB, and there are thousands of loads.
GROWTH_MIB = 40.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. Adapters take a page each; what does not fit is loaded again when it is wanted."""

    requests: int
    adapters: int
    tenants: int
    concurrency: int
    arena_pages: int
    host_pages: int
    disk_bytes: int


def make_contents(model_dir: Path, count: int, prompts: Sequence[Sequence[int]]) -> list[Content]:
    """Adapters of all ranks from 1 to 8 on changing modules."""
    config = ModelConfig.from_directory(model_dir)
    tokenizer = Tokenizer.from_directory(model_dir)
    oracle = MergedOracle(model_dir)
    linears = [m for m in config.modules() if m.index < config.embedding_module]
    contents = []
    for number in range(count):
        rng = random.Random(number)
        rank = rng.randint(1, 8)
        modules = rng.sample(linears, rng.randint(4, len(linears)))
        tensors = lora_tensors(modules, rank=rank, seed=number)
        answers = oracle.greedy(prompts, tensors, ALPHA_PER_RANK, TOKENS)
        targets = [module.name for module in modules]
        files = {
            "config": config_json(r=rank, lora_alpha=ALPHA_PER_RANK * rank, target_modules=targets),
            "weights": weights_bytes(tensors),
        }
        texts = [None if ids is None else tokenizer.decode(ids) for ids in answers]
        contents.append(Content(files, texts))
    # Otherwise a wrong adapter would go unseen.
    assert len({tuple(content.answers) for content in contents}) > 0.98 * count
    return contents


async def make_names(
    service: WholeService, size: Size, contents: Sequence[Content]
) -> tuple[list[Name], list[httpx.AsyncClient]]:
    """Tenants with adapters, every fifth of them with a second version, and all these aliases on the first."""
    clients = []
    # Shorter than the server's own, which must not close a connection in the moment it is used.
    limits = httpx.Limits(max_connections=2 * size.concurrency, keepalive_expiry=1.0)
    async with httpx.AsyncClient(base_url=service.url, headers=bearer(OPERATOR)) as operator:
        for tenant in range(size.tenants):
            made = await operator.post("/api/v1/tenants", json={"name": f"t{tenant}"})
            assert made.is_success, made.text
            made = await operator.post(f"/api/v1/tenants/t{tenant}/keys", json={})
            headers = bearer(made.json()["key"])
            clients.append(
                httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60, limits=limits)
            )
    names = [
        Name(clients[number % size.tenants], f"adapter-{number}", {1: number}, now={number})
        for number in range(size.adapters)
    ]
    for at, name in enumerate(names):
        if at % 5:
            await push(name, contents[at].files)
        else:
            await push(name, contents[at].files, alias="prod")
            name.versions[2] = size.adapters + at // 5
            await push(name, contents[name.versions[2]].files)
    return names, clients


def soak(size: Size, model: Path, folder: Path) -> list[float]:
    """Run it; returns the memory of all processes along the way, MiB."""
    rng = random.Random(1)
    # The first block of two prompts is the same.
    begins = [[rng.randrange(3, 250) for _ in range(16)] for _ in range(2)]
    prompts = [
        begins[at % 2] + [rng.randrange(3, 250) for _ in range(PROMPT - 16)] for at in range(4)
    ]
    contents = make_contents(model, size.adapters * 5 // 4 + 8, prompts)
    config = EngineConfig(
        model=model,
        device="cpu",
        max_num_seqs=size.concurrency,
        arena_bytes=size.arena_pages * PAGE,
    )
    service = WholeService(
        config, folder, host_bytes=size.host_pages * PAGE, disk_bytes=size.disk_bytes
    )
    used: list[float] = []

    def note(number: int) -> None:
        if number % (size.requests // 20) == 0:
            used.append(_memory())

    with closing(service):
        load = asyncio.run(_run(service, size, contents, prompts, note))
        print(f"memory {list(map(round, used))} MiB")
        _check(service, size, load)
    return used


async def _run(
    service: WholeService,
    size: Size,
    contents: Sequence[Content],
    prompts: Sequence[Sequence[int]],
    note: Callable[[int], None],
) -> SoakLoad:
    async with service.running():
        names, clients = await make_names(service, size, contents)
        load = SoakLoad(names, contents, prompts, TOKENS)
        start = time.monotonic()
        await load.run(size.requests, size.concurrency, note)
        print(f"{size.requests} requests in {time.monotonic() - start:.0f} s")
        for name in names:
            answer = await name.client.delete(f"/api/v1/adapters/{name.name}")
            assert answer.is_success, answer.text
        for client in clients:
            await client.aclose()
    return load


def _check(service: WholeService, size: Size, load: SoakLoad) -> None:
    time.sleep(1.5 * NEWS_SECONDS)  # the loader's figures are that old at most
    stats, tiers = service.engine.stats(), service.loader.stats()
    print(
        f"{load.checked} answers checked, {load.unclear} unclear, {load.aborted} aborted, {load.refused} refused, "
        f"{load.promoted} promoted, {load.replaced} replaced\n{stats}\n{tiers}"
    )
    assert load.wrong == []
    assert load.checked > 0.8 * size.requests
    service.engine.check_integrity()
    assert (stats.running, stats.waiting, stats.adapters_resident) == (0, 0, 0)
    assert (stats.adapter_pages, stats.kv_blocks_free) == (0, stats.kv_blocks_total)
    assert stats.adapter_evictions > size.requests // 20, "memory was not tight"
    assert (tiers.host_entries, tiers.disk_entries) == (0, 0)
    assert tiers.failures <= load.refused, "only a load whose adapter is deleted may fail"
    assert list(service.files.rglob("*.safetensors")) == []


def _memory() -> float:
    own = psutil.Process()
    everybody = [own, *own.children(recursive=True)]
    return float(sum(process.memory_info().rss for process in everybody)) / 2**20


def test_a_short_soak(tmp_path: Path) -> None:
    size = Size(300, 16, 2, 12, arena_pages=8, host_pages=6, disk_bytes=200_000)
    soak(size, tiny_model(tmp_path / "model"), tmp_path / "data")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak(tmp_path: Path) -> None:
    requests = int(os.environ.get("LORAPLEX_SOAK_REQUESTS", "20000"))
    size = Size(requests, 500, 5, 24, arena_pages=24, host_pages=60, disk_bytes=8_000_000)
    used = soak(size, tiny_model(tmp_path / "model"), tmp_path / "data")
    # By the second half every cache has been full.
    late = used[len(used) // 2 :]
    growth = statistics.linear_regression(range(len(late)), late).slope * len(late)
    assert growth < GROWTH_MIB, f"memory grew by {growth:.0f} MiB in the second half"
