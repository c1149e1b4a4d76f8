"""Owns a real API server in a process of its own: the app under uvicorn, without engines. `python -m` this file with
settings as JSON on standard input; it prints its port."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn

from loraplex.platform.app import create_app
from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.db.database import open_database
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.settings import Settings
from support.patience import PATIENCE_SECONDS
from support.services import OPERATOR, FakeEngines


class Server(NamedTuple):
    """A running server."""

    url: str
    pid: int


@contextmanager
def api_server(settings: Settings) -> Generator[Server]:
    """A server over an empty database, with `OPERATOR` as the operator's key; ended with the block."""
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "support.api_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(settings.to_json())
        process.stdin.close()
        port = int(process.stdout.readline())
        yield Server(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        process.stdout.close()


async def _serve(settings: Settings) -> None:
    database = open_database(settings)
    await upgrade(database)
    await ensure_operator_key(database, OPERATOR)
    await database.close()
    app = create_app(settings, FakeEngines(settings.models))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    print(listener.getsockname()[1], flush=True)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_serve(Settings.from_json(sys.stdin.read())))
