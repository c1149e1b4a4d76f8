"""Many streams whose readers leave whenever they like, or stop reading: the others get their answers, and nothing is
left of any: no block, no task, no reservation.

The whole service runs in one process (real sockets, real engine, real database), so that the end can be looked at.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import func, select

from loraplex.engine.config import EngineConfig
from loraplex.platform.db.database import open_database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from support.checkpoints import tiny_model
from support.patience import PATIENCE_SECONDS
from support.services import OPERATOR, bearer
from support.whole_service import WholeService

pytestmark = pytest.mark.e2e

PROMPTS = ["Once upon a time there was a fox", "Hello", "One two three four five six seven"]
TOKENS = 24
ENDLESS_TOKENS = 3500
MEMORY = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """One request: how many frames its reader takes before it leaves, None for all of them."""

    prompts: list[str]
    n: int
    frames: int | None

    @property
    def body(self) -> dict[str, object]:
        return {
            "model": "base",
            "prompt": self.prompts,
            "n": self.n,
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }


def plan(rng: random.Random) -> Plan:
    prompts = rng.choices(PROMPTS, k=rng.choice([1, 1, 1, 2]))
    return Plan(prompts, rng.choice([1, 1, 2]), rng.choice([None, None, 0, 1, rng.randrange(40)]))


async def read(client: httpx.AsyncClient, plan: Plan, expected: dict[str, str]) -> str:
    """Read a stream as planned; how that ended."""
    texts: Counter[int] = Counter()
    parts: dict[int, str] = {}
    frames = 0
    async with client.stream("POST", "/v1/completions", json=plan.body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if frames == plan.frames:
                return "left"
            if not line.startswith("data: "):
                continue
            frames += 1
            if line == "data: [DONE]":
                break
            (choice,) = json.loads(line.removeprefix("data: "))["choices"]
            parts[choice["index"]] = parts.get(choice["index"], "") + choice["text"]
            texts[choice["index"]] += choice["finish_reason"] == "length"
    wanted = [expected[prompt] for prompt in plan.prompts for _ in range(plan.n)]
    assert [parts[index] for index in range(len(wanted))] == wanted
    assert set(texts.values()) == {1}
    return "read"


async def leave_while_waiting(client: httpx.AsyncClient, plan: Plan) -> str:
    """Go before there is any answer, or almost."""
    try:
        async with asyncio.timeout(0.05):
            await client.post("/v1/completions", json={**plan.body, "stream": False})
    except TimeoutError:
        return "gone"
    return "read"


async def stop_reading(url: str, key: str) -> asyncio.StreamWriter:
    """Ask for an endless stream and read nothing but its first line."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
    body = json.dumps(
        {**Plan(["x"], 2, None).body, "max_tokens": ENDLESS_TOKENS, "logprobs": 5}
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    assert b"200" in await reader.readline()
    return writer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing of this sets an event
            await asyncio.sleep(0.02)


async def reserved(service: WholeService) -> tuple[int, int]:
    """Ledger rows that are still reserved, and all of them."""
    database = open_database(service.settings)
    try:
        async with database.main.reading(EVERY_TENANT) as session:
            rows = await session.execute(
                select(LedgerEntry.state, func.count()).group_by(LedgerEntry.state)
            )
            counts = dict(rows.all())
    finally:
        await database.close()
    return counts.get("reserved", 0), sum(counts.values())


async def run(service: WholeService, streams: int, slow: int) -> None:
    rng = random.Random(7)
    async with service.running():
        async with httpx.AsyncClient(base_url=service.url, headers=bearer(OPERATOR)) as operator:
            await operator.post("/api/v1/tenants", json={"name": "t"})
            made = await operator.post("/api/v1/tenants/t/keys", json={})
            key = made.json()["key"]
        await until(lambda: not service.engine.has_work())
        before = len(asyncio.all_tasks())
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        client = httpx.AsyncClient(
            base_url=service.url, headers=bearer(key), timeout=PATIENCE_SECONDS, limits=limits
        )
        async with client:
            alone = {**Plan(PROMPTS, 1, None).body, "stream": False}
            choices = (await client.post("/v1/completions", json=alone)).json()["choices"]
            expected = {prompt: c["text"] for prompt, c in zip(PROMPTS, choices, strict=True)}
            stuck = [await stop_reading(service.url, key) for _ in range(slow)]
            plans = [plan(rng) for _ in range(streams)]
            ends = Counter(
                await asyncio.gather(
                    *(
                        leave_while_waiting(client, each)
                        if at % 5 == 4
                        else read(client, each, expected)
                        for at, each in enumerate(plans)
                    )
                )
            )
            print(ends)
            # The slow ones held nobody up, and are still there.
            assert ends["read"] >= sum(
                each.frames is None for at, each in enumerate(plans) if at % 5 < 4
            )
            assert ends["left"] > streams // 10
            for writer in stuck:
                writer.transport.abort()
        await until(lambda: not service.engine.has_work())
        await until(lambda: len(asyncio.all_tasks()) <= before)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await reserved(service))[0]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        _, rows = await reserved(service)
        # A client that goes before its request has been read leaves none; nobody leaves two.
        assert ends["read"] + ends["left"] + slow + 1 <= rows <= streams + slow + 1
    stats = service.engine.stats()
    service.engine.check_integrity()
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.kv_blocks_free == stats.kv_blocks_total


def soak(folder: Path, streams: int, slow: int, sequences: int) -> None:
    model = tiny_model(folder / "model", max_position=4096)
    config = EngineConfig(
        model=model, device="cpu", max_num_seqs=sequences, arena_bytes=256 * 2**20
    )
    data = folder / "data"
    with closing(WholeService(config, data, host_bytes=MEMORY, disk_bytes=MEMORY)) as service:
        asyncio.run(run(service, streams, slow))


def test_a_few_streams_with_random_departures(tmp_path: Path) -> None:
    soak(tmp_path, 30, 2, 16)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_streams(tmp_path: Path) -> None:
    soak(tmp_path, int(os.environ.get("LORAPLEX_SOAK_STREAMS", "1000")), 10, 64)
