"""Owns the engine process: composes engine, adapter cache and database access, and runs the loop. Started by the
supervisor as `python -m loraplex.platform.engines.worker`; imports nothing of the web framework."""

import asyncio
import gc
import logging
import secrets
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import zmq
from sqlalchemy import select

from loraplex.adapters.cache import AdapterCache, disk_entry
from loraplex.adapters.disk_cache import DiskCache
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.platform.catalog.resolve import identity
from loraplex.platform.db.database import open_database
from loraplex.platform.db.loader_blobs import LoaderBlobs
from loraplex.platform.db.models import Adapter, AdapterVersion
from loraplex.platform.engines.adapters import AdapterHandles
from loraplex.platform.engines.loop import EngineLoop, listen
from loraplex.platform.engines.process import EngineLaunch, ReportKind, read_launch, report
from loraplex.platform.engines.pulse import Pulse
from loraplex.platform.settings import Settings

# Generous: the first steps compile kernels.
STALL_SECONDS = 600.0


def main() -> int:
    """Run until SIGTERM; the exit status is 0 then, 2 when the model cannot be served."""
    launch = read_launch(EngineLaunch)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    settings = Settings.from_json(launch.settings)
    epoch = secrets.token_hex(8)
    # Before the model is there a plain exit will do.
    signal.signal(signal.SIGTERM, _exit)
    context = zmq.Context()
    socket = listen(context, launch.model.endpoint)
    pulse = Pulse(context, launch.model.endpoint, epoch, STALL_SECONDS)
    pulse.start()
    try:
        cache, engine = _compose(settings, Path(launch.model.directory))
    except (UnsupportedModelError, InvalidConfigError) as error:
        report(launch.report_fd, ReportKind.FAILED, str(error))
        return 2
    handles = AdapterHandles(cache, engine.unload)
    loop = EngineLoop(engine, handles, socket, pulse, epoch, lambda: _stats(engine, cache))

    def stop(signum: int, frame: FrameType | None) -> None:
        loop.stop()

    signal.signal(signal.SIGTERM, stop)
    # What is there now stays. A full collection over the modules of torch and its friends stops the step loop for
    # a tenth of a second; one over what requests leave takes microseconds.
    gc.collect()
    gc.freeze()
    pulse.ready(engine.max_model_len)
    report(launch.report_fd, ReportKind.READY)
    try:
        loop.run()
    finally:
        pulse.close()
        socket.close()
        cache.close()
        context.term()
    return 0


def _compose(settings: Settings, model: Path) -> tuple[AdapterCache, Engine]:
    """The engine and, below it, device ← host ← disk ← database.

    Raises:
        UnsupportedModelError, InvalidConfigError: the model or the settings will not do.
    """
    config = EngineConfig(
        model=model,
        device=settings.device,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        load_format=settings.load_format,
    )
    shape = ModelConfig.from_directory(model)
    device = resolve_device(config.device)
    # One directory per base model: each has one process that keeps it within its size.
    directory = settings.data_dir / "cache" / shape.fingerprint[:16]
    files = DiskCache(LoaderBlobs.open(settings), directory, settings.disk_cache_size)
    # The database alone is the truth: what was deleted while no engine ran must not survive here.
    files.keep_only(asyncio.run(_stored_entries(settings)))
    cache = AdapterCache(
        files,
        shape.modules(),
        resolve_dtype(config.dtype, shape, device),
        host_bytes=settings.host_cache_size,
        pin=device.type == "cuda",
    )
    return cache, Engine(config, cache)


async def _stored_entries(settings: Settings) -> set[str]:
    database = open_database(settings)
    try:
        async with database.main.reading() as session:
            query = select(Adapter.tenant_id, AdapterVersion.digest).join(AdapterVersion.adapter)
            return {disk_entry(identity(*row)) for row in await session.execute(query)}
    finally:
        await database.close()


def _stats(engine: Engine, cache: AdapterCache) -> dict[str, float]:
    stats: dict[str, float] = asdict(engine.stats())
    return stats | {f"cache_{name}": value for name, value in asdict(cache.stats()).items()}


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
