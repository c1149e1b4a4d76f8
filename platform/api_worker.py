"""Owns one API worker process: the Litestar app under uvicorn on a socket that it inherits. Started by the supervisor
as `python -m loraplex.platform.api_worker`."""

import asyncio
import gc
import socket
import sys
import time
from types import FrameType

import uvicorn

from loraplex.engine.model_config import UnsupportedModelError
from loraplex.platform.app import create_app
from loraplex.platform.drain import Drain
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.engines.process import ApiLaunch, ReportKind, read_launch, report
from loraplex.platform.observability import configure_logging
from loraplex.platform.settings import Settings, SettingsError

# On SIGTERM requests in flight have this long to end before they are cut off.
DRAIN_SECONDS = 30.0
# Then this long to say so to their clients.
CUT_OFF_SECONDS = 2


class _Server(uvicorn.Server):
    """Tells the supervisor when requests can come in, and ends in order: uvicorn itself would stop listening at once,
    and nobody could see the end coming."""

    def __init__(
        self, config: uvicorn.Config, report_fd: int, drain: Drain, pool: EnginePool
    ) -> None:
        super().__init__(config)
        self._report_fd = report_fd
        self._drain = drain
        self._pool = pool
        self._signalled_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, a second one is it."""
        if self._drain.draining:
            super().handle_exit(sig, frame)
        self._drain.draining = True
        self._signalled_at = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to stop listening."""
        if self._drain.draining:
            if time.monotonic() - self._signalled_at > DRAIN_SECONDS:
                self._pool.cut_off()
                self.should_exit = True
            self.should_exit = self.should_exit or not self._drain.running
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays: a full collection over it would stop every stream for tens of milliseconds.
        gc.collect()
        gc.freeze()
        if not self.should_exit:
            report(self._report_fd, ReportKind.READY)


def main() -> int:
    """Serve until SIGTERM."""
    launch = read_launch(ApiLaunch)
    settings = Settings.from_json(launch.settings)
    configure_logging()
    try:
        pool = EnginePool(launch.models)
        drain = Drain()
        app = create_app(settings, pool, drain)
    except (UnsupportedModelError, SettingsError) as error:
        report(launch.report_fd, ReportKind.FAILED, str(error))
        return 2
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Whom to believe about addresses is the operator's to say (--trusted-proxies), not for loopback at large.
        proxy_headers=False,
        timeout_graceful_shutdown=CUT_OFF_SECONDS,
    )
    server = _Server(config, launch.report_fd, drain, pool)

    async def serve() -> None:
        async with pool:
            await server.serve(sockets=[socket.socket(fileno=launch.socket_fd)])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
