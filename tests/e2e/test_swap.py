"""An alias moves while requests run: those under way end on the version they began with, every later one runs on the
new one, and neither versions nor tenants ever share KV, equal files and prompts notwithstanding."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from loraplex.engine.config import EngineConfig
from loraplex.engine.tokenizer import Tokenizer
from support.oracle import Oracle
from support.patience import PATIENCE_SECONDS
from support.serve import Serve, Tenant
from support.services import OPERATOR, adapter_files, bearer
from support.whole_service import WholeService

pytestmark = pytest.mark.e2e

# The engine's own longer answers stand for the oracle's once their beginnings are equal.
LONG, CHECKED = 90, 20
PROMPT = [5, 9, 14, 200, 33, 7, 81]
PAGE = 2 * 1024 * 1024
ROUNDS = 4
ANSWERS = 4 + 3 * ROUNDS


class Stream:
    """One streamed answer of the adapter `fox`, read bit by bit."""

    def __init__(self, client: httpx.AsyncClient, model: str, prompt: list[int]) -> None:
        self.text = ""
        self._body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": LONG,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        self._client = client
        self._news = self._read()

    async def begin(self) -> None:
        """Read until there is text."""
        while not self.text:
            await anext(self._news)

    async def rest(self) -> str:
        """Read to the end; the whole text."""
        async for _ in self._news:
            pass
        return self.text

    async def _read(self) -> AsyncIterator[None]:
        async with self._client.stream("POST", "/v1/completions", json=self._body) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line and line != "data: [DONE]":
                    self.text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
                    yield


async def complete(
    client: httpx.AsyncClient, model: str, prompt: list[int], tokens: int = LONG
) -> str:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text


async def promote(client: httpx.AsyncClient, version: int) -> None:
    path = "/api/v1/adapters/fox/aliases/prod"
    answer = await client.put(path, json={"version": version})
    assert answer.status_code == 200, answer.text


async def push(client: httpx.AsyncClient, directory: Path, name: str, **fields: str) -> None:
    files = adapter_files(directory)
    answer = await client.post(
        "/api/v1/adapters",
        data={"name": name, **fields},
        files={
            "config": ("adapter_config.json", files["config"]),
            "weights": ("adapter_model.safetensors", files["weights"]),
        },
    )
    assert answer.status_code == 201, answer.text


async def served(client: httpx.AsyncClient, count: int) -> list[tuple[datetime, datetime]]:
    """Begin and end of each of the `count` answers, from the ledger."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(rows := (await client.get("/api/v1/requests")).json()["data"]) < count:  # noqa: ASYNC110 - rows set no event
            await asyncio.sleep(0.1)
    assert len(rows) == count
    begun = [datetime.fromisoformat(row["created_at"]) for row in rows]
    return [
        (at, at + timedelta(milliseconds=row["total_ms"]))
        for at, row in zip(begun, rows, strict=True)
    ]


@pytest.fixture(scope="module")
def truth(adapters: list[Path], model: Path) -> dict[int, str]:
    """How each version's answer begins, by transformers and PEFT."""
    oracle, tokenizer = Oracle(model, adapters[:2]), Tokenizer.from_directory(model)
    texts = {
        version: tokenizer.decode(oracle.greedy(PROMPT, version - 1, CHECKED).token_ids)
        for version in (1, 2)
    }
    # The last token may be half a character.
    return {version: text.rstrip("�") for version, text in texts.items()}


async def swap_while_running(
    client: httpx.AsyncClient, adapters: list[Path], truth: dict[int, str]
) -> None:
    """Promote back and forth while streams of both versions run, all with the same prompt."""
    await push(client, adapters[0], "fox", alias="prod")
    await push(client, adapters[1], "fox")
    expected: dict[int, str] = {}
    beginning: dict[int, str] = {}
    for version in (1, 2):
        expected[version] = await complete(client, f"fox@{version}", PROMPT)
        beginning[version] = await complete(client, f"fox@{version}", PROMPT, CHECKED)
        assert truth[version]
        assert expected[version].startswith(truth[version])
    assert beginning[1] != beginning[2]

    running: list[tuple[int, Stream]] = []
    promoted: list[datetime] = []
    version = 1
    for _ in range(ROUNDS):
        streams = [Stream(client, "fox", PROMPT) for _ in range(2)]
        running += [(version, stream) for stream in streams]
        await asyncio.gather(*(stream.begin() for stream in streams))
        version = 3 - version
        await promote(client, version)
        promoted.append(datetime.now(UTC))
        # What begins now that the promotion has been answered is the new one's.
        assert await complete(client, "fox", PROMPT, CHECKED) == beginning[version]
    texts = await asyncio.gather(*(stream.rest() for _, stream in running))
    for (began_on, _), text in zip(running, texts, strict=True):
        assert text == expected[began_on]
    spans = await served(client, ANSWERS)
    across = sum(begun < moment < ended for begun, ended in spans for moment in promoted)
    assert across > 0, "no answer was under way when the alias moved: this test proved nothing"


def test_promoting_under_load(server: Serve, adapters: list[Path], truth: dict[int, str]) -> None:
    tenant = server.tenant("swapper")

    async def run() -> None:
        async with httpx.AsyncClient(
            base_url=tenant.url,
            headers=bearer(tenant.key),
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        ) as client:
            await swap_while_running(client, adapters, truth)

    asyncio.run(run())


def test_promoting_where_only_one_version_has_room(
    adapters: list[Path], model: Path, truth: dict[int, str], tmp_path: Path
) -> None:
    """Two pages: the running version and the KV of all have them, so the other one waits, and nobody gets a wrong
    answer for it."""
    config = EngineConfig(
        model=model, device="cpu", dtype="float32", max_model_len=512, arena_bytes=2 * PAGE
    )
    service = WholeService(config, tmp_path, host_bytes=4 * PAGE, disk_bytes=10**8)

    async def run() -> None:
        async with service.running():
            async with httpx.AsyncClient(
                base_url=service.url, headers=bearer(OPERATOR), trust_env=False
            ) as operator:
                await operator.post("/api/v1/tenants", json={"name": "swapper"})
                made = await operator.post("/api/v1/tenants/swapper/keys", json={})
            async with httpx.AsyncClient(
                base_url=service.url,
                headers=bearer(made.json()["key"]),
                timeout=PATIENCE_SECONDS,
                trust_env=False,
            ) as client:
                await swap_while_running(client, adapters, truth)
                await complete(client, "fox", PROMPT, 1)

    try:
        asyncio.run(run())
        assert service.engine.stats().adapter_evictions > 0
        # The last rows of the ledger are written before the service has ended.
        with sqlite3.connect(tmp_path / "loraplex.db") as database:
            assert database.execute("SELECT count(*) FROM ledger").fetchone() == (ANSWERS + 1,)
    finally:
        service.close()


def cached(tenant: Tenant, model: str, prompt: list[int]) -> int:
    answer = tenant.complete(model=model, prompt=prompt, max_tokens=4)
    assert answer.status_code == 200, answer.text
    tokens: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_no_kv_is_shared_between_versions_or_tenants(server: Serve, adapters: list[Path]) -> None:
    prompt = [3 + n % 240 for n in range(70)]
    tenants = [server.tenant(name) for name in ("kv-one", "kv-two")]
    for tenant in tenants:
        for adapter in adapters[:2]:  # two versions, equal files for both tenants
            assert tenant.push("fox", adapter).status_code == 201
    who = [(tenant, model) for tenant in tenants for model in (tenant.base, "fox@1", "fox@2")]

    async def ask(prompt: list[int]) -> list[int]:
        return await asyncio.gather(
            *(asyncio.to_thread(cached, tenant, model, prompt) for tenant, model in who)
        )

    assert asyncio.run(ask(prompt)) == [0] * len(who)
    # Each finds its own, so sharing would have been seen.
    assert asyncio.run(ask(prompt)) == [64] * len(who)
