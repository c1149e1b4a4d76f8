"""Owns a whole service in one process, for tests that must look inside: the app behind a real socket, the loop of the
engine process in a thread, the real engine with little memory, its loader process, and a real database."""

import asyncio
import logging
import secrets
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvicorn
import zmq

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.platform.app import create_app
from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.db.database import open_database
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.engines.adapters import AdapterHandles
from loraplex.platform.engines.loader_client import LoaderClient
from loraplex.platform.engines.loop import EngineLoop, listen
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.engines.process import ModelEndpoint
from loraplex.platform.engines.pulse import Pulse
from loraplex.platform.engines.warmth import Warmth
from loraplex.platform.settings import ServedModel, Settings
from support.services import OPERATOR


class WholeService:
    """The service under test.

    Attributes:
        url: where it listens; `OPERATOR` is the operator's key.
        engine: to look at while its loop does not run.
        loader: the host and disk tiers, filled by a process of their own.
        files: folder of the disk tier.
    """

    def __init__(
        self, config: EngineConfig, folder: Path, *, host_bytes: int, disk_bytes: int
    ) -> None:
        self.url = ""
        self.files = folder / "cache"
        self.settings = Settings(
            data_dir=folder,
            models=(ServedModel(config.model, "base"),),
            host_cache_size=host_bytes,
            disk_cache_size=disk_bytes,
        )
        asyncio.run(_migrate(self.settings))
        shape = ModelConfig.from_directory(config.model)
        dtype = resolve_dtype(config.dtype, shape, resolve_device(config.device))
        self.loader = LoaderClient(self.settings.to_json(), str(config.model), dtype, host_bytes)
        self.engine = Engine(config, self.loader)
        self._sockets = tempfile.TemporaryDirectory(prefix="lpx-")
        self._endpoint = f"ipc://{self._sockets.name}/engine"
        self._error: Exception | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the end of the block.

        Raises:
            Exception: what ended the engine, if anything did.
        """
        # Not a line per request.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        context = zmq.Context()
        listener = listen(context, self._endpoint)
        epoch = secrets.token_hex(4)
        pulse = Pulse(context, self._endpoint, epoch, stall_seconds=60)
        pulse.start()
        handles = AdapterHandles(self.loader, self.engine.unload)
        warmth = Warmth(self.engine, handles, self.loader)

        def stats() -> dict[str, float]:
            warmth.tick()
            return {}

        loop = EngineLoop(self.engine, handles, listener, pulse, epoch, stats)
        thread = threading.Thread(target=self._run, args=(loop,), name="engine")
        thread.start()
        pulse.ready(self.engine.max_model_len)
        endpoint = ModelEndpoint("base", str(self.engine.config.model), self._endpoint)
        try:
            async with EnginePool([endpoint]) as pool, self._http(pool):
                while not pool.ready():  # noqa: ASYNC110 - a beat sets no event
                    await asyncio.sleep(0.01)
                yield
        finally:
            loop.stop()
            await asyncio.to_thread(thread.join)
            pulse.close()
            listener.close()
            context.term()
            structlog.reset_defaults()
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        self.loader.close()
        self._sockets.cleanup()

    @asynccontextmanager
    async def _http(self, pool: EnginePool) -> AsyncIterator[None]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(self.settings, pool), log_level="error", access_log=False
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield
        finally:
            server.should_exit = True
            await task

    def _run(self, loop: EngineLoop) -> None:
        try:
            loop.run()
        except Exception as error:
            self._error = error


async def _migrate(settings: Settings) -> None:
    database = open_database(settings)
    await upgrade(database)
    await ensure_operator_key(database, OPERATOR)
    await database.close()
