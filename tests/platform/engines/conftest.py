"""Fixtures: the real loop of an engine process around a scripted engine, in a thread, and clients connected to it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loraplex.platform.engines.client import EngineClient
from support.patience import PATIENCE_SECONDS
from support.scripted_engine import EngineThread, Start


@pytest.fixture(autouse=True)
def _times(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle loop looks up often, so tests end sooner. And where no test says so, an engine is not taken for lost
    because a loaded machine kept its pulse from beating."""
    monkeypatch.setattr("loraplex.platform.engines.loop.TICK_SECONDS", 0.05)
    monkeypatch.setattr("loraplex.platform.engines.client.SILENCE_SECONDS", 600.0)


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
    client = EngineClient("base", endpoint, patience=PATIENCE_SECONDS)
    await client.start()
    yield client
    await client.close()
