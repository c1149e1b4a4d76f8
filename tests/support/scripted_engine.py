"""Owns an engine that does what a test says, behind the real loop of the engine process: for what a real engine cannot
be made to do, such as fail in the middle of a step."""

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import zmq

from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.engine.adapter_report import AdapterReport, PinRefusedError
from loraplex.engine.adapter_report import Purged as Unloaded
from loraplex.engine.request import (
    FinishReason,
    InvalidRequestError,
    Output,
    Request,
    Share,
    Timings,
)
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import NO_ROOM
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.loop import EngineLoop, listen
from loraplex.platform.engines.messages import AdapterFile
from loraplex.platform.engines.pulse import Pulse
from support.patience import PATIENCE_SECONDS

# Prompts that mean something; every other one is answered with the letters a, b, c, ...
REFUSED = 666
CRASHES = 13
FAILS = 17
FULL = 18  # refused in its first step: no room for its structure
MOST_PINNED = 2  # adapters with this handle or a larger one cannot be pinned

T = TypeVar("T")


class ScriptedEngine:
    """Gives each request one letter per step; steps while `go` is set, each at least `step_seconds` long."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self.go = threading.Event()
        self.go.set()
        self.seen: Counter[tuple[int, ...]] = Counter()
        self.aborted: list[str] = []
        self.running: dict[str, tuple[Request, int]] = {}
        self.shares: list[Share] = []
        self.pinned: set[int] = set()
        self.reports: list[AdapterReport] = []
        self.steps = 0
        self.timings = Timings(0.25, 0.5, 0.125, 1.0, 1, None)
        self._unloaded: list[Unloaded] = []
        self.step_seconds = step_seconds

    def add(self, request: Request) -> None:
        if request.prompt_ids[0] == REFUSED:
            raise InvalidRequestError("No.", "prompt", "refused")
        self.seen[request.prompt_ids] += 1
        self.shares.append(request.share)
        self.running[request.request_id] = (request, 0)

    def abort(self, request_id: str) -> None:
        if self.running.pop(request_id, None) is not None:
            self.aborted.append(request_id)

    def has_work(self) -> bool:
        return bool(self.running) and self.go.is_set()

    def step(self) -> list[Output]:
        time.sleep(self.step_seconds)
        self.steps += 1
        outputs = []
        for request_id, (request, done) in list(self.running.items()):
            kind = request.prompt_ids[0]
            if kind == CRASHES and done >= 1:
                raise RuntimeError("scripted crash")
            ending = None
            if kind == FULL:
                ending = FinishReason.REFUSED, NO_ROOM
            elif kind == FAILS and done >= 1:
                ending = FinishReason.ERROR, "Scripted failure."
            outputs.append(self._advance(request_id, request, done + 1, ending))
        return outputs

    def unload(self, adapter: int) -> None:
        self._unloaded.append(Unloaded(adapter, pages=3, blocks=5, host=True))

    def purged(self) -> list[Unloaded]:
        unloaded, self._unloaded = self._unloaded, []
        return unloaded

    def pin(self, adapter: int, pinned: bool) -> None:
        if pinned and adapter >= MOST_PINNED:
            raise PinRefusedError("Too much is pinned.")
        (self.pinned.add if pinned else self.pinned.discard)(adapter)

    def adapters(self) -> list[AdapterReport]:
        return self.reports

    def _advance(
        self, request_id: str, request: Request, done: int, ending: tuple[FinishReason, str] | None
    ) -> Output:
        limit = request.params.max_tokens or 16
        reason, error = ending or (FinishReason.LENGTH if done >= limit else None, None)
        if reason is None:
            self.running[request_id] = (request, done)
        else:
            del self.running[request_id]
        return Output(
            request_id=request_id,
            token_ids=(done,),
            text=chr(ord("a") + (done - 1) % 26),
            logprobs=None,
            finish_reason=reason,
            error=error,
            prompt_tokens=len(request.prompt_ids),
            cached_tokens=0,
            output_tokens=done,
            timings=None if reason is None else self.timings,
        )


class Adapters:
    """Handles without weights. The tiers below have each adapter once, take until `go` is set to remove it, and tell
    old `figures` until `refresh`."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.go = threading.Event()
        self.go.set()
        self.purged: list[str] = []
        self.pinned: list[str] = []
        self._engine = engine
        self._handles: dict[str, int] = {}
        self._identities: list[str] = []
        self._forgetting: list[Forgotten] = []
        self._figures: set[str] = set()

    def handle(self, adapter: AdapterFile) -> int:
        if adapter.identity not in self._handles:
            self._handles[adapter.identity] = len(self._identities)
            self._identities.append(adapter.identity)
            self._figures.add(adapter.identity)
        return self._handles[adapter.identity]

    def known(self, identity: str) -> int | None:
        return self._handles.get(identity)

    def identity(self, handle: int) -> str | None:
        return self._identities[handle]

    def purge(self, identity: str) -> None:
        self.purged.append(identity)
        handle = self._handles.pop(identity, None)
        if handle is not None:
            self._engine.unload(handle)
        self._forgetting.append(Forgotten(identity, host_entries=1, disk_files=1))

    def forgotten(self) -> list[Forgotten]:
        if not self.go.is_set():
            return []
        forgotten, self._forgetting = self._forgetting, []
        return forgotten

    def pin(self, adapters: list[AdapterFile]) -> None:
        self.pinned = [adapter.identity for adapter in adapters]

    def figures(self) -> list[AdapterFigures]:
        return [AdapterFigures(name, host_bytes=10, disk_bytes=20) for name in self._figures]

    def refresh(self) -> None:
        self._figures = set(self._handles)


class EngineThread:
    """One life of an engine process, without the process."""

    def __init__(self, endpoint: str, step_seconds: float = 0.0) -> None:
        self.engine = ScriptedEngine(step_seconds)
        self.adapters = Adapters(self.engine)
        self.error: Exception | None = None
        self._context = zmq.Context()
        socket = listen(self._context, endpoint)
        epoch = secrets.token_hex(4)
        self._pulse = Pulse(self._context, endpoint, epoch, stall_seconds=60)
        self._pulse.start()
        self.loop = EngineLoop(
            self.engine, self.adapters, socket, self._pulse, epoch, lambda: {"steps": 1.0}
        )
        self._socket = socket
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._pulse.ready(max_model_len=1000)

    def stop(self) -> None:
        """End this life; what was in flight is lost."""
        if self._thread.is_alive():
            self.loop.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run()
        except RuntimeError as error:
            self.error = error
        finally:
            self._pulse.close()
            self._socket.close(linger=200)
            self._context.term()


Start = Callable[..., EngineThread]


def job(*prompt: int, tokens: int = 5) -> Job:
    """A job for the scripted engine; its first token decides what happens."""
    return Job(prompt or (1, 2), SamplingParams(max_tokens=tokens))


async def read(generation: Generation) -> list[str]:
    """Read to the end; the texts by job."""
    texts = [""] * len(generation.slots)
    while not generation.finished:
        for index, delta in await generation.next():
            texts[index] += delta.text
    return texts


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - threads set no asyncio events
            await asyncio.sleep(0.01)


async def soon(awaited: Awaitable[T]) -> T:
    """The result; an error instead of waiting for ever."""
    return await asyncio.wait_for(awaited, PATIENCE_SECONDS)
