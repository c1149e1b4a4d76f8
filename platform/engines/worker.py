"""Owns the engine process: composes engine and loader, and runs the loop. Started by the supervisor as
`python -m loraplex.platform.engines.worker`; imports nothing of the web framework."""

import gc
import logging
import secrets
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import zmq

from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.platform.engines.adapters import AdapterHandles
from loraplex.platform.engines.hardware import device_memory, device_name
from loraplex.platform.engines.loader_client import LoaderClient
from loraplex.platform.engines.loop import EngineLoop, listen
from loraplex.platform.engines.pinning import pin_in_background
from loraplex.platform.engines.process import EngineLaunch, ReportKind, read_launch, report
from loraplex.platform.engines.pulse import Pulse
from loraplex.platform.engines.warmth import Warmth
from loraplex.platform.settings import Settings

# It starts beside the engine and takes 2 to 3 s of processor time; an engine without it still serves its base model.
LOADER_START_SECONDS = 30.0
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
        loader, engine = _compose(settings, Path(launch.model.directory))
    except (UnsupportedModelError, InvalidConfigError) as error:
        report(launch.report_fd, ReportKind.FAILED, str(error))
        return 2
    handles = AdapterHandles(loader, engine.unload)
    warmth = Warmth(engine, handles, loader)
    device = resolve_device(settings.device)
    pulse.device = device_name(device)

    def stats() -> dict[str, float]:
        """Called by the loop once a second."""
        warmth.tick()
        return _stats(engine, loader) | device_memory(device)

    loop = EngineLoop(engine, handles, socket, pulse, epoch, stats)

    def stop(signum: int, frame: FrameType | None) -> None:
        loop.stop()

    signal.signal(signal.SIGTERM, stop)
    if not loader.wait_until_up(LOADER_START_SECONDS):
        logging.getLogger(__name__).warning(
            "the adapter loader is not up yet: adapters wait for it"
        )
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
        warmth.tell()
        loader.close()
        context.term()
    return 0


def _compose(settings: Settings, model: Path) -> tuple[LoaderClient, Engine]:
    """The engine and, below it, a loader that gets itself ready while the model is loaded.

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
        arena_bytes=settings.arena_size,
        enable_prefix_cache=not settings.no_prefix_cache,
        user_grammars=settings.user_grammars,
        load_format=settings.load_format,
    )
    shape = ModelConfig.from_directory(model)
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, shape, device)
    loader = LoaderClient(settings.to_json(), str(model), dtype, settings.host_cache_size)
    try:
        if device.type == "cuda":
            pin_in_background(loader.memory.region[: loader.memory.capacity], device)
        return loader, Engine(config, loader)
    except BaseException:
        loader.close()
        raise


def _stats(engine: Engine, loader: LoaderClient) -> dict[str, float]:
    stats: dict[str, float] = asdict(engine.stats())
    return stats | {f"cache_{name}": value for name, value in asdict(loader.stats()).items()}


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
