"""SIGTERM: no new requests, those under way end, nothing is left open. A second one ends everything at once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlalchemy import select

from loraplex.platform import api_worker
from loraplex.platform.db.database import open_database
from loraplex.platform.db.models import ApiWorker, LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.drain import Drain
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.settings import Settings
from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def stream(tenant: Tenant, tokens: int) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream that has begun."""
    body = {"model": tenant.base, "prompt": "Hello", "max_tokens": tokens, "ignore_eos": True}
    headers = {"authorization": f"Bearer {tenant.key}"}
    async with (
        httpx.AsyncClient(timeout=120, trust_env=False) as client,
        client.stream(
            "POST", f"{tenant.url}/v1/completions", json={**body, "stream": True}, headers=headers
        ) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await anext(lines)
        yield lines


async def test_what_is_under_way_ends_and_nothing_else_begins(model: Path, tmp_path: Path) -> None:
    with Serve(model, tmp_path) as serve:
        tenant = serve.tenant("acme")
        async with stream(tenant, 1500) as lines:
            serve.process.send_signal(signal.SIGTERM)
            async with httpx.AsyncClient(
                base_url=serve.url,
                headers={"authorization": f"Bearer {tenant.key}"},
                timeout=60,
                trust_env=False,
            ) as client:
                while (state := await client.get("/ready")).status_code == 200:  # noqa: ASYNC110 - a process sets none
                    await asyncio.sleep(0.02)
                assert state.status_code == 503
                assert state.json()["draining"] is True
                assert (await client.get("/health")).status_code == 200
                refused = await client.post(
                    "/v1/completions", json={"model": serve.base, "prompt": "x"}
                )
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "shutting_down"
                assert refused.headers["retry-after"] == "1"
                assert refused.headers["connection"] == "close"
            last = [line async for line in lines if line][-1]
        assert last == "data: [DONE]"
        assert await asyncio.to_thread(serve.process.wait, 60) == 0

    database = open_database(Settings(data_dir=tmp_path))
    async with database.main.reading(EVERY_TENANT) as session:
        (row,) = await session.scalars(select(LedgerEntry))
        assert (row.state, row.finish_reason, row.output_tokens) == ("settled", "length", 1500)
        assert list(await session.scalars(select(ApiWorker))) == []
    await database.close()


async def test_a_second_signal_ends_everything_at_once(model: Path, tmp_path: Path) -> None:
    with Serve(model, tmp_path) as serve:
        tenant = serve.tenant("acme")
        async with stream(tenant, 16_000) as lines:
            serve.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(serve.wait, lambda: "Stopping:" in serve.output())
            serve.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                assert "data: [DONE]" not in [line async for line in lines]
        assert await asyncio.to_thread(serve.process.wait, 60) == 0


class CutOff(EnginePool):
    """Only notes that it was cut off."""

    def __init__(self) -> None:
        super().__init__([])
        self.times = 0

    def cut_off(self) -> None:
        self.times += 1


async def test_what_does_not_end_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    drain, pool = Drain(), CutOff()
    config = uvicorn.Config(app=lambda: None, log_config=None)
    server = api_worker._Server(config, -1, drain, pool)
    drain.running = 1
    assert not await server.on_tick(0)
    server.handle_exit(signal.SIGTERM, None)
    assert drain.draining
    assert not await server.on_tick(0)
    assert pool.times == 0
    monkeypatch.setattr(api_worker, "DRAIN_SECONDS", -1.0)
    assert await server.on_tick(0)
    assert pool.times == 1
