"""The stand-in for an engine takes every message that API workers send, not only those a short run brings."""

import importlib
import multiprocessing
import sys
import tempfile
import threading
from pathlib import Path

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.generation import Job
from loraplex.platform.engines.messages import AdapterFile
from support.scripted_engine import read, soon, until

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
paced_engine = importlib.import_module("paced_engine")


async def test_it_takes_every_message_and_goes_on() -> None:
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="lpx-") as folder:
        endpoint = f"ipc://{folder}/engine"
        engine = threading.Thread(target=paced_engine.run_engine, args=(endpoint, 0.001, theirs))
        engine.start()
        client = EngineClient("base", endpoint)
        await client.start()
        await until(lambda: client.ready)
        try:
            for pinned in ([], [AdapterFile("t/a", "sha", 1, b"{}")]):
                client.control.pin(pinned)
                job = Job((1, 2), SamplingParams(max_tokens=3))
                assert await read(await soon(client.generate([job]))) == [" token" * 3]
            assert (await soon(client.control.purge("t/a"))).identity == "t/a"
            state = await soon(client.control.describe())
            assert state is not None
            assert state.adapters == []
        finally:
            await client.close()
            ours.send("stop")
            engine.join()
    assert ours.recv()[1] >= 6
