"""Fixtures: the real loop of an engine process around a scripted engine, in a thread, and clients connected to it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loraplex.platform.engines.client import EngineClient
from support.scripted_engine import EngineThread, Start


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle loop looks up this often, so tests end sooner."""
    monkeypatch.setattr("loraplex.platform.engines.loop.TICK_SECONDS", 0.05)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A socket path short enough for the system's limit, which pytest's own folders may not be."""
    with tempfile.TemporaryDirectory(prefix="lpx-") as folder:
        yield f"ipc://{Path(folder)}/engine"


@pytest.fixture
def engines(endpoint: str) -> Iterator[Start]:
    """Start engine lives at `endpoint`, one after the other."""
    lives: list[EngineThread] = []

    def start(**options: float) -> EngineThread:
        lives.append(EngineThread(endpoint, **options))
        return lives[-1]

    yield start
    for life in lives:
        life.stop()


@pytest.fixture
async def client(endpoint: str) -> AsyncIterator[EngineClient]:
    client = EngineClient("base", endpoint, patience=5.0)
    await client.start()
    yield client
    await client.close()
