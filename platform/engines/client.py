"""Owns an API worker's connection to one engine process: starts generations, hands news to their readers, and notices
when the engine is gone or a new one has taken its place."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Sequence

import msgspec
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from loraplex.platform.engines.control import EngineControl
from loraplex.platform.engines.generation import Generation, Job, Slot, failure
from loraplex.platform.engines.messages import (
    STRUCTURES_FULL,
    Abort,
    Beat,
    Delta,
    EngineState,
    FromEngine,
    Generate,
    Goodbye,
    Purged,
    Refusal,
    Step,
    ToEngine,
    beat_endpoint,
)
from loraplex.platform.engines.outcome import ERROR, Handing, Settle, Written
from loraplex.platform.errors import (
    BadRequestError,
    EngineUnavailableError,
    PlatformError,
    StructuresFullError,
)

# The pulse beats every half second in a thread of its own; six missed beats are no accident.
SILENCE_SECONDS = 3.0
# A restarted engine is back within seconds for a small model; a caller is not kept longer than this.
PATIENCE_SECONDS = 30.0
CHECK_SECONDS = 0.25
MAX_ATTEMPTS = 2
MAX_INFLIGHT = 4096


class EngineClient:
    """One engine process, seen from asyncio. All methods belong to the loop that ran `start`.

    Attributes:
        beat: the engine's latest news about itself, None before the first.
        control: what is asked of the engine beside generations.
    """

    def __init__(self, name: str, endpoint: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self.beat: Beat | None = None
        self.control = EngineControl(self._send)
        self._name = name
        self._endpoint = endpoint
        self._patience = patience
        self._epoch: str | None = None  # the engine life that takes requests now
        self._last_beat = 0.0
        self._slots: dict[str, Slot] = {}  # at the engine, by request id
        self._unsent: dict[Slot, None] = {}  # an ordered set
        self._ids = (f"{secrets.token_hex(6)}-{n}" for n in itertools.count())
        self._decoder = msgspec.msgpack.Decoder(FromEngine)
        self._encoder = msgspec.msgpack.Encoder()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return self._epoch is not None

    @property
    def inflight(self) -> int:
        return len(self._slots) + len(self._unsent)

    def acknowledge(self, accounts: Sequence[bytes]) -> None:
        """What these accounts took is written down: the engine may forget it."""
        self.control.acknowledge(accounts)

    async def start(self) -> None:
        """Connect, and keep connecting until `close`; the engine need not be there yet."""
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        # Only an engine that is there gets messages; none is kept for one that may come.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.linger = 0
        # This side always reads at once; a full queue would make the engine drop us.
        self._socket.setsockopt(zmq.RCVHWM, 0)
        monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(self._endpoint)
        self._beats = self._context.socket(zmq.SUB)
        self._beats.setsockopt(zmq.SUBSCRIBE, b"")
        self._beats.setsockopt(zmq.RECONNECT_IVL, 50)
        self._beats.connect(beat_endpoint(self._endpoint))
        work = (self._read(), self._listen(), self._watch(monitor), self._check())
        self._tasks = [asyncio.create_task(coroutine) for coroutine in work]

    async def close(self) -> None:
        """Fail what is in flight and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut_off()
        self._slots.clear()
        self._unsent.clear()
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def cut_off(self) -> None:
        """Fail what is in flight: this worker ends and can wait no longer."""
        for slot in [*self._slots.values(), *self._unsent]:
            slot.generation.fail(self._unavailable("The server is shutting down."))

    async def generate(
        self,
        jobs: Sequence[Job],
        settle: Settle | None = None,
        written: Written | None = None,
        handing: Handing | None = None,
    ) -> Generation:
        """Start jobs together and return once the engine has accepted all of them.

        The caller must `close` the generation, however reading it ends. A job of which nothing was read yet survives
        one loss of the engine: it is started afresh on the next one. `settle` is told how each job ended; of those the
        engine refused nothing is said. `written`: see `Generation.conclude`. `handing` is told of what is read in
        pieces, before it is.

        Raises:
            BadRequestError: the engine can never serve one of them.
            EngineUnavailableError: too much is in flight, or no engine came back in time.
        """
        if self.inflight + len(jobs) > MAX_INFLIGHT:
            raise self._unavailable("The server has too many unfinished requests; try again later.")
        generation = Generation(jobs, self._close_generation, settle, written, handing)
        for slot in generation.slots:
            self._unsent[slot] = None
        self._send_unsent()
        try:
            await generation.accepted()
        except BaseException:
            generation.close()
            raise
        return generation

    def _close_generation(self, generation: Generation) -> None:
        running = []
        for slot in generation.slots:
            self._unsent.pop(slot, None)
            request_id = slot.request_id
            if request_id is not None and self._slots.pop(request_id, None) is not None:
                running.append(request_id)
        if running:
            self._send(Abort(running))

    # Sending

    def _send(self, message: ToEngine) -> bool:
        """Hand a message to the connection; False if there is none."""
        # Without waiting the future is done at once, one way or the other.
        future = asyncio.ensure_future(
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        )
        if future.done() and future.exception() is None:
            return True
        future.cancel()
        return False

    def _send_unsent(self) -> None:
        while self._epoch is not None and self._unsent:
            slot = next(iter(self._unsent))
            job, request_id = slot.job, next(self._ids)
            message = Generate(
                self._epoch,
                request_id,
                job.prompt_ids,
                job.params,
                job.adapter,
                job.cache_salt,
                job.priority,
                job.share,
                job.account,
                slot.index,
                job.prompt,
            )
            if not self._send(message):
                return
            del self._unsent[slot]
            slot.request_id = request_id
            slot.attempts += 1
            self._slots[request_id] = slot

    # Receiving

    async def _read(self) -> None:
        while True:
            message = self._decoder.decode(await self._socket.recv())
            if isinstance(message, Step):
                self._on_step(message)
            elif isinstance(message, Goodbye):
                self._on_lost()
            elif isinstance(message, Purged):
                self.control.on_purged(message)
            else:
                self.control.on_answer(message)

    def _on_step(self, step: Step) -> None:
        for request_id in step.accepted:
            if (slot := self._slots.get(request_id)) is not None:
                slot.accepted = slot.begun = True
                slot.generation.notify()
        for refusal in step.refused:
            self._on_refusal(refusal)
        for delta in step.deltas:
            self._on_delta(delta)

    def _on_refusal(self, refusal: Refusal) -> None:
        if (slot := self._slots.pop(refusal.request_id, None)) is not None:
            slot.generation.fail(_error_of(refusal))

    def _on_delta(self, delta: Delta) -> None:
        slot = self._slots.get(delta.request_id)
        if slot is None or slot.generation.failed:
            return
        slot.last = delta
        if slot.first_at is None and delta.token_ids:
            slot.first_at = time.monotonic()
        if delta.finish_reason is not None:
            del self._slots[delta.request_id]
            error = failure(delta)
            slot.generation.settle(slot, delta.finish_reason if error is None else ERROR)
            if error is not None:
                slot.generation.fail(error)
                return
        slot.generation.push(slot, delta)

    # Life and death of the engine

    async def _listen(self) -> None:
        decoder = msgspec.msgpack.Decoder(Beat)
        while True:
            beat = decoder.decode(await self._beats.recv())
            self._last_beat = asyncio.get_running_loop().time()
            known = self.beat is not None and self.beat.epoch == beat.epoch
            self.beat = beat
            if not known:
                self._on_lost()
            if beat.state is EngineState.READY:
                self._epoch = beat.epoch
                self._send_unsent()
                self.control.on_beat()

    async def _watch(self, monitor: zmq.asyncio.Socket) -> None:
        while True:
            await recv_monitor_message(monitor)
            self._on_lost()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            if self._epoch is not None and now - self._last_beat > SILENCE_SECONDS:
                self._on_lost()
            for slot in list(self._unsent):
                if now - slot.waiting_since > self._patience:
                    del self._unsent[slot]
                    slot.generation.fail(
                        self._unavailable(
                            f"The engine of {self._name!r} is not running; try again later."
                        )
                    )

    def _on_lost(self) -> None:
        """The engine ended or fell silent: what had not been read starts afresh once, the rest fails now."""
        self._epoch = None
        self.control.on_lost()
        slots, self._slots = self._slots, {}
        if slots:
            # It may only have been silent; then this keeps it from working for nobody.
            self._send(Abort(list(slots)))
        now = asyncio.get_running_loop().time()
        for slot in slots.values():
            slot.request_id = None
            if slot.delivered or slot.attempts >= MAX_ATTEMPTS:
                slot.generation.fail(
                    self._unavailable(
                        f"The engine of {self._name!r} stopped while working on this request."
                    )
                )
                continue
            slot.generation.restart(slot)
            slot.waiting_since = now
            self._unsent[slot] = None

    def _unavailable(self, message: str) -> EngineUnavailableError:
        return EngineUnavailableError(message)


def _error_of(refusal: Refusal) -> PlatformError:
    if refusal.code == STRUCTURES_FULL:
        return StructuresFullError(refusal.message)
    return BadRequestError(refusal.message, code=refusal.code, param=refusal.param)
