"""Owns the loop of an engine process: take messages, step, send what came out, without ever waiting for a client."""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec
import zmq

from loraplex.engine.request import (
    FinishReason,
    InvalidRequestError,
    Output,
    Request,
    Share,
)
from loraplex.engine.structure import NO_ROOM, Kind
from loraplex.platform.engines.descriptions import Descriptions
from loraplex.platform.engines.finals import FinalBook
from loraplex.platform.engines.messages import (
    STRUCTURES_FULL,
    Abort,
    Acknowledge,
    Delta,
    Describe,
    Finals,
    FinalsOf,
    FromEngine,
    Generate,
    Goodbye,
    Purge,
    Refusal,
    Step,
    TenantShare,
    ToEngine,
)
from loraplex.platform.engines.outcome import CANCELLED, LOST
from loraplex.platform.engines.ports import AdapterDirectory, EnginePort
from loraplex.platform.engines.pulse import Pulse
from loraplex.platform.engines.purges import Purges
from loraplex.platform.engines.residents import Residents
from loraplex.platform.engines.running import Client, Running
from loraplex.platform.engines.traffic import TrafficBook

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# While every request waits for its adapter a step does nothing; this long is slept for messages in between.
LOADING_PAUSE_MS = 1
# So often an engine without work looks whether a purge has ended.
PURGING_PAUSE_MS = 5
# A step without news that took longer did something: it computed part of a prompt, or launched work whose results the
# next step reads.
NOTHING_DONE_SECONDS = 0.0002
# Messages kept for a client that does not read. It is given up when they are full: a stuck API worker must cost the
# engine neither time nor memory.
MAX_QUEUED_MESSAGES = 20_000
# The field of a request that a structure comes from, for those that are found out to be impossible.
STRUCTURE_FIELDS: dict[Kind, str] = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "structured_outputs.regex",
    "choice": "structured_outputs.choice",
    "grammar": "structured_outputs.grammar",
    "structural_tag": "tools",
}


def listen(context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> "zmq.Socket[bytes]":
    """The socket an `EngineLoop` serves, bound to `endpoint`."""
    socket = context.socket(zmq.ROUTER)
    # Sending to a client that is gone, or that does not read, is an error to act upon instead of silence.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.SNDHWM, MAX_QUEUED_MESSAGES)
    # Enough for a last message to leave.
    socket.linger = 200
    socket.bind(endpoint)
    return socket


class EngineLoop:
    """Serves one engine to all API workers through a bound ROUTER socket."""

    def __init__(
        self,
        engine: EnginePort,
        adapters: AdapterDirectory,
        socket: "zmq.Socket[bytes]",
        pulse: Pulse,
        epoch: str,
        stats: Callable[[], dict[str, float]],
    ) -> None:
        self._engine = engine
        self._adapters = adapters
        self._socket = socket
        self._pulse = pulse
        self._epoch = epoch
        self._stats = stats
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._encoder = msgspec.msgpack.Encoder()
        self._clients: dict[bytes, Client] = {}
        self._running: dict[str, Running] = {}  # by request
        self._tenants: dict[str, int] = {}  # to the numbers by which the engine knows them
        self._traffic = TrafficBook()
        self._finals = FinalBook()
        self._residents = Residents(engine, adapters)
        self._purges = Purges(self._residents)
        self._descriptions = Descriptions(self._residents, self._traffic)
        self._next_tick = 0.0
        self._stopping = False

    def stop(self) -> None:
        """Make `run` return after the present round; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`. An exception of the engine is told to the clients and raised."""
        idle = True
        while not self._stopping:
            wait_ms = LOADING_PAUSE_MS if idle else 0
            if not self._engine.has_work():
                wait_ms = max(1, int(1000 * (self._next_tick - time.monotonic())))
                if self._purges:
                    wait_ms = min(wait_ms, PURGING_PAUSE_MS)
            self._receive(wait_ms)
            self._send_news()
            if self._engine.has_work():
                idle = not self._step()
                self._send_news()
            self._answer()
            self._tick()

    def _step(self) -> bool:
        """Run one step; whether it did anything."""
        self._pulse.step_started = started = time.monotonic()
        try:
            outputs = self._engine.step()
        except Exception as error:
            # Nobody knows what state the engine is in now: start afresh rather than serve wrong tokens.
            for routing_id in list(self._clients):
                self._send(routing_id, Goodbye(f"{type(error).__name__}: {error}"))
            raise
        finally:
            self._pulse.step_started = None
        for output in outputs:
            self._deliver(output)
        return bool(outputs) or time.monotonic() - started > NOTHING_DONE_SECONDS

    def _deliver(self, output: Output) -> None:
        request_id = output.request_id
        running = self._running.get(request_id)
        if running is None or not (running.accepted or self._accept(running, output)):
            return
        running.last = output
        if running.traffic is not None:
            running.traffic.output_tokens += len(output.token_ids)
        deltas = self._clients[running.client].step.deltas
        if output.finish_reason is None:
            deltas.append(Delta(*output))
            return
        timings = output.timings
        evictor = None if timings is None else self._residents.name(timings.evicted_by)
        deltas.append(Delta(*output, evictor))
        self._end(request_id, output.finish_reason, evictor)

    def _accept(self, running: Running, output: Output) -> bool:
        """Take note of the first output of a request that asked for a structure; whether it has more to say."""
        step = self._clients[running.client].step
        if output.finish_reason is FinishReason.REFUSED:
            structure = running.message.params.structure
            field = None if structure is None else STRUCTURE_FIELDS[structure.kind]
            if output.error == NO_ROOM:
                refusal = Refusal(output.request_id, NO_ROOM, None, STRUCTURES_FULL)
            else:
                refusal = Refusal(output.request_id, output.error or "", field, "invalid_value")
            step.refused.append(refusal)
            self._forget(output.request_id)
            return False
        running.accepted = True
        step.accepted.append(output.request_id)
        return bool(output.token_ids or output.finish_reason)

    def _end(self, request_id: str, reason: str, evicted_by: str | None = None) -> None:
        running = self._forget(request_id)
        if running.message.account:
            final = running.final(reason, evicted_by)
            self._clients[running.client].finals[request_id] = final

    def _forget(self, request_id: str) -> Running:
        running = self._running.pop(request_id)
        self._clients[running.client].requests.discard(request_id)
        if running.traffic is not None:
            running.traffic.end()
        return running

    def _receive(self, wait_ms: int) -> None:
        """Handle everything that has arrived; wait at most `wait_ms` for the first message."""
        if not self._socket.poll(wait_ms):
            return
        while True:
            try:
                routing_id, data = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self._decoder.decode(data)
            except msgspec.DecodeError as error:
                logger.error("a message of an API worker could not be read: %s", error)
                continue
            self._handle(routing_id, message)

    def _handle(self, routing_id: bytes, message: ToEngine) -> None:
        client = self._clients.setdefault(routing_id, Client())
        if isinstance(message, Generate):
            if message.epoch == self._epoch:
                self._add(routing_id, client, message)
        elif isinstance(message, Abort):
            for request_id in message.request_ids:
                if request_id in self._running:
                    self._engine.abort(request_id)
                    self._end(request_id, CANCELLED)
        elif isinstance(message, Purge):
            self._purges.ask(routing_id, message, self._traffic.unfinished(message.identity))
            self._traffic.forget(message.identity)
        elif isinstance(message, Describe):
            self._descriptions.ask(routing_id, message.number)
        elif isinstance(message, Acknowledge):
            self._finals.acknowledge(message.accounts)
            client.acknowledge(message.accounts)
        elif isinstance(message, Finals):
            self._tell_finals(routing_id, message)
        else:
            self._residents.pin(message.adapters)

    def _add(self, routing_id: bytes, client: Client, message: Generate) -> None:
        adapter = message.adapter
        try:
            self._engine.add(
                Request(
                    message.request_id,
                    message.prompt_ids,
                    message.params,
                    None if adapter is None else self._adapters.handle(adapter),
                    message.cache_salt,
                    message.priority,
                    self._share(message.share),
                )
            )
        except InvalidRequestError as error:
            refusal = Refusal(message.request_id, str(error), error.param, error.code)
            client.step.refused.append(refusal)
            return
        traffic = None
        if adapter is not None:
            traffic = self._traffic.account(adapter.identity)
            traffic.begin(len(message.prompt_ids))
        self._finals.begin(message.account, message.choice)
        running = self._running[message.request_id] = Running(routing_id, message, traffic)
        client.requests.add(message.request_id)
        if running.accepted:
            client.step.accepted.append(message.request_id)

    def _share(self, share: TenantShare) -> Share:
        """For the engine a tenant is a number, the same one as long as the engine lives."""
        number = self._tenants.setdefault(share.tenant, len(self._tenants))
        return Share(number, share.weight, share.max_running, share.adapter_max_running)

    def _answer(self) -> None:
        """What was asked beside generations."""
        if self._purges:
            for routing_id, purged in self._purges.ended():
                self._send(routing_id, purged)
        if self._descriptions:
            whole = not self._engine.has_work()
            for routing_id, description in self._descriptions.proceed(whole=whole):
                self._send(routing_id, description)

    def _tell_finals(self, routing_id: bytes, asked: Finals) -> None:
        running = {each.message.account for each in self._running.values()}
        running.intersection_update(asked.accounts)
        finals = self._finals.of(asked.accounts)
        self._send(routing_id, FinalsOf(asked.number, finals, list(running)))

    def _send_news(self) -> None:
        for routing_id, client in list(self._clients.items()):
            if (step := client.take()) is not None:
                self._send(routing_id, step)
            # Not before: what cannot be sent was not handed over.
            if client.finals:
                self._finals.add(client.finals.values())
                client.finals.clear()

    def _send(self, routing_id: bytes, message: FromEngine) -> None:
        try:
            self._socket.send_multipart((routing_id, self._encoder.encode(message)), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self._drop(routing_id, message.deltas if isinstance(message, Step) else ())

    def _drop(self, routing_id: bytes, unsent: Sequence[Delta]) -> None:
        """The client is gone, or reads nothing any more: stop working for it. `unsent`: what could not be sent."""
        client = self._clients.get(routing_id)
        if client is None:
            return
        for request_id in list(client.requests):
            self._engine.abort(request_id)
            self._end(request_id, LOST)
        del self._clients[routing_id]
        for delta in unsent:
            final = client.finals.get(delta.request_id)
            if final is not None:
                left = final.output_tokens - len(delta.token_ids)
                client.finals[delta.request_id] = msgspec.structs.replace(
                    final, finish_reason=LOST, output_tokens=left
                )
        self._finals.add(client.finals.values())
        client.finals.clear()

    def _tick(self) -> None:
        """Once a second: renew the statistics, and find out which clients are gone."""
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        self._pulse.stats = self._stats()
        for routing_id in list(self._clients):
            self._send(routing_id, Step())
