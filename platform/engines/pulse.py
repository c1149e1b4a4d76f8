"""Owns the engine's heartbeat: a thread of its own, so that a long step or a long load does not look like death."""

import os
import threading
import time

import msgspec
import zmq

from loraplex.platform.engines.messages import Beat, EngineState, beat_endpoint

BEAT_SECONDS = 0.5


class Pulse:
    """Publishes a `Beat` twice a second until closed. Attributes are set by the engine's thread.

    A step under way for more than `stall_seconds` ends the process: nothing else can end a step that hangs on a device,
    and the supervisor starts a new one.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        epoch: str,
        stall_seconds: float,
    ) -> None:
        self.state = EngineState.LOADING
        self.max_model_len = 0
        self.stats: dict[str, float] = {}
        self.device = ""
        self.step_started: float | None = None
        self._epoch = epoch
        self._stall_seconds = stall_seconds
        self._closed = False
        self._wake = threading.Event()
        self._socket = context.socket(zmq.PUB)
        self._socket.linger = 0
        self._socket.bind(beat_endpoint(endpoint))
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ready(self, max_model_len: int) -> None:
        """Tell everybody at once that requests are taken now."""
        self.max_model_len = max_model_len
        self.state = EngineState.READY
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        encoder = msgspec.msgpack.Encoder()
        with self._socket:
            while not self._closed:
                started = self.step_started
                age = 0.0 if started is None else time.monotonic() - started
                if age > self._stall_seconds:
                    os._exit(70)
                beat = Beat(
                    self._epoch, self.state, self.max_model_len, age, self.stats, self.device
                )
                self._socket.send(encoder.encode(beat))
                self._wake.wait(BEAT_SECONDS)
                self._wake.clear()
