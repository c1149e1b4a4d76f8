"""Owns everything that waits in the engine, and for what: its turn, its adapter, its limits, memory."""

import bisect
from dataclasses import dataclass, field

from loraplex.engine.fair_queue import FairQueue, Lane
from loraplex.engine.load_queue import LoadQueue
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.sequence import Sequence
from loraplex.engine.stopwatch import Absence


@dataclass(slots=True, eq=False)
class AdapterWait:
    """One adapter that requests wait for.

    Attributes:
        sequences: those requests.
        absence: for how long it has not been on the device.
        parked: lanes put aside until something happens to it.
        arrived: whether it has been on the device meanwhile.
        held: sequences of `WaitingRoom.held` among those requests.
    """

    sequences: dict[Sequence, None] = field(default_factory=dict)
    absence: Absence = field(default_factory=Absence)
    parked: list[Lane] = field(default_factory=list)
    arrived: bool = False
    held: int = 0


class WaitingRoom:
    """Waiting sequences. What cannot run is put aside and costs nothing until something happens to what it waits for.

    Attributes:
        queue: those that were never admitted.
        returning: preempted ones, by arrival.
        held: requests of `queue` whose turn has come and which memory keeps out, in the order of their turns.
        adapters: adapters that are waited for, by handle.
        changes: grows whenever something happened that may let a held or returning sequence in.
    """

    def __init__(self, pool: LoRAPool) -> None:
        self._pool = pool
        self.queue = FairQueue()
        self.returning: list[Sequence] = []
        self.held: list[Sequence] = []
        self.adapters: dict[int, AdapterWait] = {}
        self.changes = 0
        self._loads = LoadQueue()
        self._present: set[int] = (
            set()
        )  # those of `adapters` that were on the device when last looked at
        self._evictions = self._failures = 0
        self._wanted: frozenset[int] | None = None  # None: to be made anew
        self._limited: dict[int | None, list[Lane]] = {}

    @property
    def wanted(self) -> frozenset[int]:
        """The handles of `adapters`, as they are now."""
        if self._wanted is None:
            self._wanted = frozenset(self.adapters)
        return self._wanted

    def __len__(self) -> int:
        return len(self.queue) + len(self.returning)

    def add(self, sequence: Sequence, now: float) -> None:
        """Queue a new sequence; its adapter starts loading at once, unless many others are to be loaded first."""
        sequence.account = self.queue.account(sequence)
        self.queue.add(sequence)
        self._wait(sequence, now)

    def take_back(self, sequence: Sequence, now: float) -> None:
        """Queue a preempted sequence."""
        bisect.insort(self.returning, sequence, key=_arrival)
        self._wait(sequence, now)

    def remove(self, sequence: Sequence) -> bool:
        """Take a sequence out that will not run; False if it is not here."""
        if sequence in self.returning:
            self.returning.remove(sequence)
        elif sequence in self.queue:
            self._release_hold(sequence, self.queue.lane(sequence))
            self.queue.remove(sequence)
        else:
            return False
        self._leave(sequence)
        return True

    def admit(self, sequence: Sequence, now: float) -> None:
        """Take a sequence out because it runs."""
        handle = sequence.request.adapter
        if handle is not None:
            self._note_presence(handle, self.adapters[handle], now)
        if sequence.admitted:
            self.returning.remove(sequence)
        else:
            lane = self.queue.lane(sequence)
            self.queue.admit(sequence)
            self._release_hold(sequence, lane)
        self._leave(sequence)

    def look_at_adapters(self, now: float) -> None:
        """See what has come, gone and failed since the last call, and start the next loads."""
        pool = self._pool
        if self._evictions != pool.evictions:
            self._evictions = pool.evictions
            for handle in [h for h in self._present if not pool.is_ready(h)]:
                self.changes += 1
                self._present.remove(handle)
                self.adapters[handle].absence.begin(now, pool.last_evictor(handle))
        failed, self._failures = self._failures != pool.failures, pool.failures
        for handle in self._loads.asked():
            wait = self.adapters[handle]
            if pool.is_ready(handle):
                self._note_presence(handle, wait, now)
                self._loads.discard(handle)
            elif failed and pool.has_failed(handle):
                self._loads.discard(handle)
            # What waits for one that is on its way has to see whether it has come as far as the host.
            self._wake(wait)
        self._loads.ask(pool)

    def absent(self, sequence: Sequence, handle: int, now: float) -> None:
        """Note that a sequence's adapter has turned out to be neither on the device nor on the host."""
        wait = self.adapters[handle]
        wait.absence.begin(now, self._pool.last_evictor(handle))
        self._loads.add(sequence, handle, urgent=wait.arrived)

    def arrived(self, handle: int) -> bool:
        """Whether an adapter has been on the device since somebody waits for it: it must have been evicted if it is not
        there."""
        return self.adapters[handle].arrived

    def make_way(self, handle: int) -> None:
        """Have an adapter loaded before all others, even if the host has no place for it: others go to the device at
        the cost of what is idle there."""
        self._pool.prefetch(handle)
        for other in self._loads.asked():
            self._bring(other)

    def is_to_be_asked(self, handle: int) -> bool:
        """Whether an adapter is behind others that are to be loaded first."""
        return self._loads.is_behind(handle)

    def park(self, sequence: Sequence, handle: int) -> None:
        """Put a lane aside until something happens to the adapter."""
        lane = self.queue.lane(sequence)
        self.queue.park(lane)
        self.adapters[handle].parked.append(lane)

    def hold(self, sequence: Sequence) -> None:
        """Its turn has come, but memory keeps it out. One request per adapter is enough to get the adapter in."""
        handle = sequence.request.adapter
        if handle is not None:
            wait = self.adapters[handle]
            if wait.held:
                self.park(sequence, handle)
                return
            wait.held += 1
        sequence.held = True
        self.queue.park(self.queue.lane(sequence))
        self.held.append(sequence)

    def limit_client(self, sequence: Sequence) -> None:
        """Put a client aside until one of its sequences ends."""
        self.queue.pause(sequence)

    def limit_adapter(self, sequence: Sequence) -> None:
        """Put a lane aside until a sequence with its adapter ends."""
        lane = self.queue.lane(sequence)
        self.queue.park(lane)
        self._limited.setdefault(sequence.request.adapter, []).append(lane)

    def ended(self, sequence: Sequence) -> None:
        """A sequence that was admitted has left the engine."""
        self.changes += 1
        request = sequence.request
        for lane in self._limited.pop(request.adapter, ()):
            self.queue.put_back(lane)
        self.queue.ended(request.share.client)

    def _wait(self, sequence: Sequence, now: float) -> None:
        handle = sequence.request.adapter
        if handle is None:
            sequence.stopwatch.wait(now, None)
            return
        wait = self.adapters.get(handle)
        if wait is None:
            wait = self.adapters[handle] = AdapterWait()
            self._wanted = None
        wait.sequences[sequence] = None
        if self._pool.is_ready(handle):
            self._note_presence(handle, wait, now)
        else:
            self.absent(sequence, handle, now)
            self._loads.ask(self._pool)
        sequence.stopwatch.wait(now, wait.absence)

    def _leave(self, sequence: Sequence) -> None:
        handle = sequence.request.adapter
        if handle is None:
            return
        wait = self.adapters[handle]
        del wait.sequences[sequence]
        self._wake(wait)
        if not wait.sequences:
            del self.adapters[handle]
            self._wanted = None
            self._present.discard(handle)
            self._loads.discard(handle)

    def _note_presence(self, handle: int, wait: AdapterWait, now: float) -> None:
        wait.absence.end(now)
        if handle not in self._present:
            self._present.add(handle)
            wait.arrived = True
            self.changes += 1

    def _bring(self, handle: int) -> Residency:
        """Have an adapter that is on the host copied to the device."""
        residency = self._pool.acquire(handle, insist=True)
        if residency is Residency.READY:
            self._pool.release(handle)
            self.adapters[handle].arrived = True
        return residency

    def _release_hold(self, sequence: Sequence, lane: Lane) -> None:
        if sequence.held:
            sequence.held = False
            self.held.remove(sequence)
            self.queue.put_back(lane)
            if sequence.request.adapter is not None:
                self.adapters[sequence.request.adapter].held -= 1

    def _wake(self, wait: AdapterWait) -> None:
        for lane in wait.parked:
            self.queue.put_back(lane)
        wait.parked.clear()


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival
