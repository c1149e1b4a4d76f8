"""Owns the requests whose grammars are being compiled: threads beside the step loop compile, and what they made is kept
for the next request that wants it."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple
from weakref import WeakValueDictionary

from loraplex.engine.structure import NO_ROOM, Structure, StructureError
from loraplex.engine.structured.port import Grammar, GrammarLibrary, Matcher

# Two for each client, so that one large grammar does not hold up all small ones, and one more for everybody else. The
# library compiles without Python's lock, so steps go on beside it.
MOST_OF_CLIENT = 2
THREADS = 3
MOST_STUCK = 4  # threads that go on beyond their time and are replaced; each takes a processor
# Typical grammars take 0.1 to 15 MB each with a vocabulary of 128,000 tokens.
CACHE_BYTES = 128 << 20
# Of all that are kept or in use. Those that are being compiled come on top, one for each thread.
MOST_BYTES = 1 << 30
# The worst that is admitted took 6 s of processor time with 128,000 tokens (a string of at most 100 characters; next a
# pattern of 100 wide characters with 4 s, 3,000 properties with 3 s); this is for a machine that is
# busy: for a user's grammar a process has to start first, see `trial_process`.
PATIENCE_SECONDS = 120.0
_TOO_LONG = "The structure is too complex: compiling it took too long. Make it smaller."


class Compiled(NamedTuple):
    """What came of one request: a matcher, or a sentence that says why there is none."""

    request_id: str
    matcher: Matcher | None
    error: str | None


@dataclass(slots=True, eq=False)
class _Job:
    """A structure on its way, and who waits for it. `client` asked first; `begun` says whether a thread has it."""

    structure: Structure
    client: int
    deadline: float
    waiting: dict[str, None] = field(default_factory=dict)
    begun: bool = False


class Structures:
    """Makes matchers. One thread calls everything; the threads within never touch what it holds."""

    def __init__(
        self,
        open_library: Callable[[], GrammarLibrary],
        *,
        cache_bytes: int = CACHE_BYTES,
        most_bytes: int = MOST_BYTES,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            open_library: called once, in a thread, when the first structure is asked for.
            cache_bytes: what grammars that nobody uses may take.
            most_bytes: what all grammars may take; while they take more, no other is compiled.
            patience: seconds after which those who wait are told that it takes too long. A thread cannot be stopped:
                it goes on with the grammar it has.
        """
        self._library = _Opened(open_library)
        self._cache_bytes = cache_bytes
        self._most_bytes = most_bytes
        self._patience = patience
        self._clock = clock
        self._known: WeakValueDictionary[Structure, Grammar] = WeakValueDictionary()
        self._cache: OrderedDict[Structure, Grammar] = (
            OrderedDict()
        )  # of these, kept though nobody uses them
        self._jobs: dict[Structure, _Job] = {}
        self._waiting: dict[str, Structure] = {}
        self._at_once: list[Compiled] = []
        self._todo: SimpleQueue[Structure] = (
            SimpleQueue()
        )  # what the threads without work take up at once
        self._done: SimpleQueue[tuple[Structure, Grammar | str]] = SimpleQueue()
        self._news = threading.Event()
        self._threads = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is being compiled and nobody waits."""
        return not self._waiting and not self._jobs

    def ask(self, request_id: str, structure: Structure, client: int = 0) -> None:
        """Have a matcher made; `ready` will tell. Clients get turns, and none has every thread."""
        self._waiting[request_id] = structure
        grammar = self._known.get(structure)
        if grammar is not None:
            self._keep(structure, grammar)
            self._at_once.append(Compiled(request_id, grammar.matcher(), None))
            return
        job = self._jobs.get(structure)
        if job is None:
            job = self._jobs[structure] = _Job(structure, client, self._clock() + self._patience)
        job.waiting[request_id] = None
        self._begin()

    def forget(self, request_id: str) -> bool:
        """Nobody waits for this request any more; whether it was waiting."""
        structure = self._waiting.pop(request_id, None)
        if structure is None:
            return False
        if (job := self._jobs.get(structure)) is not None:
            job.waiting.pop(request_id, None)
            self._drop_unwanted(job)
        return True

    def ready(self) -> list[Compiled]:
        """Those that were decided since the last call."""
        if self.idle:
            self._at_once.clear()
            return []
        self._news.clear()
        decided, self._at_once = self._at_once, []
        while not self._done.empty():
            decided += self._finish(*self._done.get())
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.waiting and now > job.deadline:
                error = _TOO_LONG if job.begun or self._has_room() else NO_ROOM
                decided += [Compiled(each, None, error) for each in job.waiting]
                job.waiting.clear()
                self._drop_unwanted(job)
        self._begin()
        # Of the same name only what was asked last counts: it may have been forgotten and asked anew.
        return [each for each in decided if self._waiting.pop(each.request_id, None) is not None]

    def wait(self, timeout: float) -> None:
        """Sleep until there may be news, at most `timeout` seconds."""
        self._news.wait(timeout)

    def _finish(self, structure: Structure, result: Grammar | str) -> list[Compiled]:
        job = self._jobs.pop(structure)
        if isinstance(result, str):
            return [Compiled(each, None, result) for each in job.waiting]
        self._keep(structure, result)
        return [Compiled(each, result.matcher(), None) for each in job.waiting]

    def _keep(self, structure: Structure, grammar: Grammar) -> None:
        self._known[structure] = self._cache[structure] = grammar
        self._cache.move_to_end(structure)
        while _bytes(self._cache) > self._cache_bytes:
            self._cache.popitem(last=False)

    def _has_room(self) -> bool:
        """Whether one more grammar may be compiled; makes room if those that nobody uses take it."""
        while self._cache and _bytes(self._known) > self._most_bytes:
            self._cache.popitem(last=False)
        return _bytes(self._known) <= self._most_bytes

    def _drop_unwanted(self, job: _Job) -> None:
        """What nobody waits for any more is not begun."""
        if not job.waiting and not job.begun:
            del self._jobs[job.structure]

    def _begin(self) -> None:
        """Give the threads work: of the clients that have fewest, the structure that was asked for first. Threads that
        do not come to an end are replaced, as far as that goes."""
        now = self._clock()
        stuck = sum(job.begun and now > job.deadline for job in self._jobs.values())
        most = THREADS + min(stuck, MOST_STUCK)
        begun = Counter(job.client for job in self._jobs.values() if job.begun)
        waiting = [job for job in self._jobs.values() if not job.begun]
        while waiting and begun.total() < most and self._has_room():
            job = min(waiting, key=lambda each: begun[each.client])
            if begun[job.client] >= MOST_OF_CLIENT:
                return
            waiting.remove(job)
            job.begun = True
            begun[job.client] += 1
            self._todo.put(job.structure)
            if self._threads < begun.total():
                self._threads += 1
                # A daemon: a grammar that never ends must not keep the process from ending.
                threading.Thread(target=self._work, name="grammars", daemon=True).start()

    def _work(self) -> None:
        while True:
            structure = self._todo.get()
            try:
                result: Grammar | str = self._library.get().compile(structure)
            except StructureError as error:
                result = str(error)
            except Exception as error:
                result = f"The structure cannot be compiled ({type(error).__name__})."
            self._done.put((structure, result))
            self._news.set()


def _bytes(grammars: Mapping[Structure, Grammar]) -> int:
    return sum(grammar.size + len(structure.source) for structure, grammar in grammars.items())


class _Opened:
    """The library, opened by whoever needs it first."""

    def __init__(self, open_library: Callable[[], GrammarLibrary]) -> None:
        self._open = open_library
        self._lock = threading.Lock()
        self._library: GrammarLibrary | None = None

    def get(self) -> GrammarLibrary:
        with self._lock:
            if self._library is None:
                self._library = self._open()
            return self._library
