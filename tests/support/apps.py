"""Owns the one app of a test process: its routes are built once, each test puts services of its own under them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar

from loraplex.platform.app import create_app, serve_with
from loraplex.platform.drain import Drain
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.services import compose
from loraplex.platform.settings import Settings

_idle: list[Litestar] = []


@asynccontextmanager
async def running_app(settings: Settings, engines: EnginePool) -> AsyncGenerator[Litestar]:
    """An app over `settings`, from its start to its end. One that nobody uses any more is taken before one is built:
    to build the routes takes 0.3 s."""
    if _idle:
        app = _idle.pop()
        serve_with(app, compose(settings, engines, Drain()))
    else:
        app = create_app(settings, engines)
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # In one task from beginning to end, which a fixture is not.
        async with app.lifespan():
            started.set()
            await ended.wait()

    life = asyncio.create_task(live())
    await started.wait()
    try:
        yield app
    finally:
        ended.set()
        await life
        _idle.append(app)


def client_of(app: Litestar, *, raises: bool = False) -> httpx.AsyncClient:
    """A client of an app that runs; `raises`: errors of the app reach the test."""
    # httpx's own transport: Litestar's test client reads a whole body before it passes it on.
    # The ignore: Litestar's ASGI types are narrower than the protocol's own.
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")
