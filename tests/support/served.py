"""Owns a service in one process whose engine is scripted: the real app, the real connection to the engine, and answers
of as many letters as were asked for."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from litestar import Litestar

from loraplex.platform.db.database import Database, open_database
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.engines.process import ModelEndpoint
from loraplex.platform.settings import Settings
from support.apps import client_of, running_app
from support.scripted_engine import EngineThread
from support.services import OPERATOR, bearer


@dataclass(frozen=True, slots=True)
class Served:
    """The running service; `engine` is stopped with it."""

    http: httpx.AsyncClient
    database: Database
    engine: EngineThread
    pool: EnginePool
    app: Litestar

    async def tenant(self, name: str) -> str:
        """Make a tenant with a key; returns the key."""
        operator = bearer(OPERATOR)
        await self.http.post("/api/v1/tenants", json={"name": name}, headers=operator)
        answer = await self.http.post(f"/api/v1/tenants/{name}/keys", json={}, headers=operator)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def complete(self, key: str, **body: object) -> httpx.Response:
        """A completion of a prompt of two tokens, unless the body says otherwise."""
        return await self.http.post(
            "/v1/completions", json={"model": "tiny", "prompt": [1, 2], **body}, headers=bearer(key)
        )


@asynccontextmanager
async def served(settings: Settings, step_seconds: float = 0.0) -> AsyncIterator[Served]:
    """The service over a migrated database."""
    database = open_database(settings)
    (model,) = settings.models
    with tempfile.TemporaryDirectory(prefix="lpx-") as folder:
        endpoint = f"ipc://{Path(folder)}/engine"
        engine = EngineThread(endpoint, step_seconds)
        try:
            pool = EnginePool([ModelEndpoint("tiny", str(model.path), endpoint)])
            async with pool, running_app(settings, pool) as app, client_of(app) as client:
                while not pool.ready():  # noqa: ASYNC110 - a beat sets no event
                    await asyncio.sleep(0.01)
                yield Served(client, database, engine, pool, app)
        finally:
            engine.stop()
            await database.close()
