"""Owns a stand-in for the engine that gives every sequence one token per step at a fixed pace: what the service path
costs can then be measured on any machine."""

import time
from multiprocessing.connection import Connection
from threading import Thread

import zmq

from loraplex.adapters.figures import AdapterFigures, Forgotten
from loraplex.engine.adapter_report import AdapterReport
from loraplex.engine.adapter_report import Purged as Unloaded
from loraplex.engine.request import FinishReason, Output, Request
from loraplex.platform.engines.loop import EngineLoop, listen
from loraplex.platform.engines.messages import AdapterFile
from loraplex.platform.engines.pulse import Pulse

_CONTEXT_TOKENS = 8192


class PacedEngine:
    """Gives each request one token per step; steps begin `step_seconds` apart.

    Attributes:
        made: tokens so far. own_seconds: processor time that the stand-in itself took.
    """

    def __init__(self, step_seconds: float) -> None:
        self.made = 0
        self.own_seconds = 0.0
        self._step_seconds = step_seconds
        self._next_step = 0.0
        self._running: dict[str, tuple[Request, int]] = {}

    def add(self, request: Request) -> None:
        self._running[request.request_id] = (request, 0)

    def abort(self, request_id: str) -> None:
        self._running.pop(request_id, None)

    def has_work(self) -> bool:
        return bool(self._running)

    def adapters(self) -> list[AdapterReport]:
        return []

    def pin(self, adapter: int, pinned: bool) -> None:
        pass

    def purged(self) -> list[Unloaded]:
        return []

    def step(self) -> list[Output]:
        now = time.perf_counter()
        if now < self._next_step:
            time.sleep(self._next_step - now)
        self._next_step = max(now, self._next_step) + self._step_seconds
        begin = time.thread_time()
        outputs = [self._advance(*entry) for entry in list(self._running.values())]
        self.made += len(outputs)
        self.own_seconds += time.thread_time() - begin
        return outputs

    def _advance(self, request: Request, done: int) -> Output:
        done += 1
        last = done == request.params.max_tokens
        if last:
            del self._running[request.request_id]
        else:
            self._running[request.request_id] = (request, done)
        return Output(
            request_id=request.request_id,
            token_ids=(1000 + done,),
            text=" token",
            logprobs=None,
            finish_reason=FinishReason.LENGTH if last else None,
            error=None,
            prompt_tokens=len(request.prompt_ids),
            cached_tokens=0,
            output_tokens=done,
        )


class NoAdapters:
    """The base model alone. API workers tell now and then what is pinned, also if nothing is."""

    def __init__(self) -> None:
        self._forgotten: list[Forgotten] = []

    def handle(self, adapter: AdapterFile) -> int:
        return 0

    def known(self, identity: str) -> int | None:
        return None

    def identity(self, handle: int) -> str | None:
        return None

    def purge(self, identity: str) -> None:
        self._forgotten.append(Forgotten(identity, host_entries=0, disk_files=0))

    def forgotten(self) -> list[Forgotten]:
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def pin(self, adapters: list[AdapterFile]) -> None:
        pass

    def figures(self) -> list[AdapterFigures]:
        return []


def run_engine(endpoint: str, step_seconds: float, parent: Connection) -> None:
    """Be an engine process at `endpoint` until `parent` sends something; answers with its loop's processor seconds
    beyond the stand-in's own, and the tokens made."""
    context = zmq.Context()
    socket = listen(context, endpoint)
    pulse = Pulse(context, endpoint, "paced", stall_seconds=60)
    pulse.start()
    engine = PacedEngine(step_seconds)
    loop = EngineLoop(engine, NoAdapters(), socket, pulse, "paced", dict)
    pulse.ready(_CONTEXT_TOKENS)

    def wait() -> None:
        parent.recv()
        loop.stop()

    # Ends with the process, or one that failed would wait for ever, and its parent for it.
    Thread(target=wait, daemon=True).start()
    begin = time.thread_time()
    loop.run()
    parent.send((time.thread_time() - begin - engine.own_seconds, engine.made))
    pulse.close()
    socket.close()
    context.term()
