"""Owns one API worker process: the Litestar app under uvicorn on a socket that it inherits. Started by the supervisor
as `python -m loraplex.platform.api_worker`."""

import asyncio
import gc
import socket
import sys

import uvicorn

from loraplex.engine.model_config import UnsupportedModelError
from loraplex.platform.app import create_app
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.engines.process import ApiLaunch, ReportKind, read_launch, report
from loraplex.platform.observability import configure_logging
from loraplex.platform.settings import Settings, SettingsError

# On SIGTERM requests in flight have this long to end before they are cut off.
DRAIN_SECONDS = 30


class _Server(uvicorn.Server):
    """Tells the supervisor when requests can come in."""

    def __init__(self, config: uvicorn.Config, report_fd: int) -> None:
        super().__init__(config)
        self._report_fd = report_fd

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
        app = create_app(settings, pool)
    except (UnsupportedModelError, SettingsError) as error:
        report(launch.report_fd, ReportKind.FAILED, str(error))
        return 2
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, launch.report_fd)

    async def serve() -> None:
        async with pool:
            await server.serve(sockets=[socket.socket(fileno=launch.socket_fd)])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
