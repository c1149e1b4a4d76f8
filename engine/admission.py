"""Owns the decision which waiting sequences are admitted."""

from dataclasses import dataclass, field
from enum import Enum, auto

from loraplex.engine.accounts import PROMPT_COST
from loraplex.engine.block_manager import BlockManager
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.sequence import Sequence
from loraplex.engine.waiting_room import WaitingRoom

# A request whose turn it is and that memory keeps out lets later ones pass before anything is done about it, so that a
# gap too small for one is of use to others: one for so many of the sequences that run, since a batch of 8 turns over as
# slowly as one of 256, and a few at least.
_RUNNING_PER_PASS = 4
_MIN_PATIENCE = 4
# While adapters are drained for it, requests that take no adapter memory go on; when so many times as many have passed
# as before the drain, even they wait. That is a turnover of the whole batch.
_CLOSED_AFTER = 4
# What an evicted adapter may take to come back while all others wait for it; it takes a tenth of that from a database.
# A source that does not answer must not stop the others.
_LOAD_SECONDS = 4.0
# Requests whose turn has come and that memory keeps out: no more turns are given while there are so many. Above the
# number of adapters that wait on the host for room, so these alone do not stop the others.
_MAX_HELD = 32
# The same for those that lack KV blocks only: each try hashes a prompt.
_MAX_BLOCKLESS = 4
# Turns in one step, successful or not: bounds the step's time when thousands of adapters have yet to be loaded. One
# takes 3 to 10 µs.
_MAX_TURNS = 64

NEVER_FITS = (
    "The request needs more memory than this server has for its adapter and its tokens together; shorten the prompt or "
    "max_tokens, or ask the server's operator for more."
)


class Outcome(Enum):
    """What came of a sequence's turn."""

    ADMITTED = auto()
    FAILED = auto()
    TOO_LARGE = auto()
    CLIENT_LIMIT = auto()
    ADAPTER_LIMIT = auto()
    BARRED = auto()  # it would take adapter memory that is being drained for another
    LOADING = auto()
    NO_ROOM = auto()  # for the adapter
    NO_BLOCKS = auto()


@dataclass(slots=True)
class Round:
    """The admissions of one step.

    Attributes:
        passed: sequences that memory keeps out and that every further admission passes over.
        closed: whether there are no further admissions.
        patience: how many may pass a sequence before something is done about it.
        in_use: while adapters are drained, the ones that may be used; None otherwise.
    """

    now: float
    places: int
    budget: int
    patience: int
    admitted: list[tuple[Sequence, int]] = field(default_factory=list)
    failed: list[tuple[Sequence, str]] = field(default_factory=list)
    passed: list[tuple[Sequence, Outcome]] = field(default_factory=list)
    closed: bool = False
    in_use: set[int] | None = None

    @property
    def open(self) -> bool:
        return not self.closed and self.places > 0 and self.budget > 0

    @property
    def blockless(self) -> int:
        return sum(outcome is Outcome.NO_BLOCKS for _, outcome in self.passed)


class Admission:
    """Admits waiting sequences.

    Turns are given in fair order (`FairQueue`). A request whose turn it is may be unable to run:
    - Its adapter is being loaded. Others go on meanwhile; no admission prolongs a load, and loads are started in a fair
      order of their own. When the adapter has come the request is where its client's counter puts it.
    - It, or its adapter, has as many sequences running as it may. It waits without holding others.
    - Memory is lacking: for its KV blocks, for its adapter, or its adapter came and was evicted before its turn. Then
      every request that is admitted after its turn *passes it over*, and none is passed over more than
      max(16, max_num_seqs) times: then nothing is admitted until it is. Running sequences end, so it fits at last, or
      it never could and is refused; only for the second load of an evicted adapter others wait no longer than
      _LOAD_SECONDS. One that lacks blocks stops the others after a quarter of that count. For one that lacks room for
      its adapter, those adapters are drained from then on whose sequences end soonest: they get no new sequences, and
      only requests for other adapters in use, and for none, go on.

    Attributes:
        waiting: everything that waits.
    """

    def __init__(
        self, blocks: BlockManager, adapters: LoRAPool, running: dict[Sequence, None]
    ) -> None:
        """`running` is the scheduler's: those admitted join it."""
        self.waiting = WaitingRoom(adapters)
        self._blocks = blocks
        self._adapters = adapters
        self._running = running
        self._running_with: dict[int | None, int] = {}  # by adapter; preempted ones count too
        self._drained_for: Sequence | None = None
        self._draining: set[int] = set()
        self._holder: Sequence | None = None  # has its adapter, and waits for blocks
        # `WaitingRoom.changes` then, and the pages that could be had.
        self._tried: dict[Sequence, tuple[int, int, Outcome]] = {}
        self._stopped_since: dict[Sequence, float] = {}  # others wait for its adapter's load

    @property
    def holder(self) -> Sequence | None:
        """The sequence that holds its adapter without running, if there is one."""
        return self._holder

    def patience(self) -> int:
        """How many may pass a sequence now before something is done about it."""
        return max(_MIN_PATIENCE, len(self._running) // _RUNNING_PER_PASS)

    def admit(self, round_: Round) -> None:
        """Give turns while there is room in the step."""
        waiting = self.waiting
        for sequence in [*waiting.returning, *waiting.held]:
            if not round_.open:
                return
            if sequence.held or sequence in waiting.returning:  # not refused with another one
                self._give_turn(sequence, round_)
        for _ in range(_MAX_TURNS):
            if not round_.open or len(waiting.held) >= _MAX_HELD:
                break
            first = waiting.queue.first() if round_.blockless < _MAX_BLOCKLESS else None
            if first is None:
                break
            self._give_turn(first, round_)

    def drop(self, sequence: Sequence) -> bool:
        """Take a waiting sequence out that will not run; False if it is not here."""
        if not self.waiting.remove(sequence):
            return False
        self._tried.pop(sequence, None)
        self._stopped_since.pop(sequence, None)
        if sequence is self._holder:
            self.let_go()
        if sequence.admitted:
            self.ended(sequence)
        return True

    def ended(self, sequence: Sequence) -> None:
        """A sequence that was admitted has left the engine."""
        handle = sequence.request.adapter
        self._running_with[handle] -= 1
        if not self._running_with[handle]:
            del self._running_with[handle]
        assert sequence.account is not None
        sequence.account.client.running -= 1
        self.waiting.ended(sequence)

    def let_go(self) -> None:
        """Release the adapter of the sequence that holds one without running."""
        holder, self._holder = self._holder, None
        if holder is not None and holder.request.adapter is not None:
            holder.holds_adapter = False
            self._adapters.release(holder.request.adapter)
            self.waiting.changes += 1

    def _give_turn(self, sequence: Sequence, round_: Round) -> None:
        """Admit a sequence, or put it where what it lacks will be noticed when it comes."""
        waiting, handle = self.waiting, sequence.request.adapter
        new = not sequence.held and not sequence.admitted
        holder = self._holder
        tried, room, outcome = self._tried.get(sequence, (-1, 0, Outcome.NO_ROOM))
        if tried != waiting.changes or self._adapters.room > room or not self._running:
            outcome = self._try(sequence, round_)
        match outcome:
            case Outcome.ADMITTED:
                self._start(sequence, round_)
            case Outcome.FAILED:
                assert handle is not None
                error = self._adapters.failure(handle)
                for other in list(waiting.adapters[handle].sequences):
                    self._refuse(other, error, round_)
            case Outcome.TOO_LARGE:
                self._refuse(sequence, NEVER_FITS, round_)
            case Outcome.CLIENT_LIMIT if new:
                waiting.limit_client(sequence)
            case Outcome.ADAPTER_LIMIT if new:
                waiting.limit_adapter(sequence)
            case Outcome.LOADING if new and handle is not None and not waiting.arrived(handle):
                waiting.absent(sequence, handle, round_.now)
                waiting.park(sequence, handle)
            case Outcome.LOADING | Outcome.NO_ROOM | Outcome.NO_BLOCKS | Outcome.BARRED:
                self._keep_out(sequence, outcome, round_, holder)

    def _keep_out(
        self, sequence: Sequence, outcome: Outcome, round_: Round, holder: Sequence | None
    ) -> None:
        """Memory keeps a sequence out: see to it that this does not last. `holder`: which there was at its turn."""
        handle, waiting = sequence.request.adapter, self.waiting
        if outcome is Outcome.LOADING:
            assert handle is not None
            waiting.absent(sequence, handle, round_.now)
        elif not self._running and not self._adapters.loading:
            if holder in (None, sequence):
                self._refuse(sequence, NEVER_FITS, round_)
                return
            if self._holder is holder:  # else what it held was let go only now
                self.let_go()
        if not sequence.held and not sequence.admitted:
            waiting.hold(sequence)
        if sequence.held or sequence.admitted:
            if outcome is not Outcome.LOADING:
                self._tried[sequence] = waiting.changes, self._adapters.room, outcome
            round_.passed.append((sequence, outcome))
            self._keep_place(sequence, outcome, round_)

    def _try(self, sequence: Sequence, round_: Round) -> Outcome:
        """Take what the sequence needs, or nothing; but one that stops all others because it lacks blocks keeps its
        adapter, lest it has to be loaded again."""
        if (limit := self._limit(sequence)) is not None:
            return limit
        handle = sequence.request.adapter
        most = sequence.request.params.max_tokens
        wanted = sequence.num_prompt + (1 if most is None else most)
        fits = self._adapters.fits(handle, wanted) or sequence.admitted
        # If the adapter alone is too large the pool has a better word for it.
        if not fits and self._adapters.fits(handle, 0):
            return Outcome.TOO_LARGE
        if handle is not None and not sequence.holds_adapter:
            residency = self._acquire(sequence, handle, round_)
            if residency is not Outcome.ADMITTED:
                return residency
        # Blocks for the whole prompt, so that prompts do not preempt each other.
        self._blocks.match_prefix(sequence)
        if self._blocks.grow(sequence, len(sequence.tokens)):
            return Outcome.ADMITTED
        self._blocks.release(sequence)
        if handle is not None and not sequence.holds_adapter:
            if self._insists(sequence, round_):
                self.let_go()
                sequence.holds_adapter, self._holder = True, sequence
            else:
                self._adapters.release(handle)
        return Outcome.NO_BLOCKS

    def _acquire(self, sequence: Sequence, handle: int, round_: Round) -> Outcome:
        """Hold the adapter for a sequence, or say what prevents it."""
        barred = round_.in_use is not None and handle not in round_.in_use
        if self._adapters.is_ready(handle):
            if barred:
                return Outcome.BARRED
        elif self.waiting.is_to_be_asked(handle):
            return Outcome.LOADING
        insist = self._insists(sequence, round_) and not barred
        outcome = _OUTCOMES[self._adapters.acquire(handle, insist=insist)]
        if barred and outcome is Outcome.ADMITTED:
            self._adapters.release(handle)
        return Outcome.BARRED if barred and outcome in _HERE else outcome

    def _insists(self, sequence: Sequence, round_: Round) -> bool:
        """Whether something is done to let a sequence in; if it lacks blocks, nothing else is admitted before it."""
        return sequence.admitted or sequence.passed_over >= round_.patience

    def _limit(self, sequence: Sequence) -> Outcome | None:
        share, account = sequence.request.share, sequence.account
        if sequence.admitted or account is None:
            return None
        if share.client_limit is not None and account.client.running >= share.client_limit:
            return Outcome.CLIENT_LIMIT
        running = self._running_with.get(sequence.request.adapter, 0)
        if share.adapter_limit is not None and running >= share.adapter_limit:
            return Outcome.ADAPTER_LIMIT
        return None

    def _start(self, sequence: Sequence, round_: Round) -> None:
        handle, account = sequence.request.adapter, sequence.account
        self._tried.pop(sequence, None)
        self._stopped_since.pop(sequence, None)
        if self._holder is sequence:
            self._holder, sequence.holds_adapter = None, False
        self.waiting.admit(sequence, round_.now)
        if not sequence.admitted:
            assert account is not None
            sequence.cached_tokens = sequence.num_computed
            account.charge(PROMPT_COST * (sequence.num_prompt - sequence.num_computed))
            account.client.running += 1
            self._running_with[handle] = self._running_with.get(handle, 0) + 1
        sequence.stopwatch.run(round_.now)
        sequence.slot = None if handle is None else self._adapters.slot(handle)
        sequence.running = True
        self._running[sequence] = None
        num_tokens = min(sequence.remaining, round_.budget)
        # At once, so that other answers to the same prompt can join the step without computing it again.
        self._blocks.publish(sequence, num_tokens)
        round_.admitted.append((sequence, num_tokens))
        round_.places -= 1
        round_.budget -= num_tokens
        for other, outcome in round_.passed:
            other.passed_over += 1
            self._keep_place(other, outcome, round_)

    def _keep_place(self, sequence: Sequence, outcome: Outcome, round_: Round) -> None:
        """Stop those that would keep a sequence out for longer than its bound."""
        if outcome is Outcome.NO_BLOCKS:
            round_.closed |= self._insists(sequence, round_)
        elif sequence.passed_over >= _CLOSED_AFTER * round_.patience:
            if outcome is Outcome.LOADING and sequence.request.adapter is not None:
                self.waiting.make_way(sequence.request.adapter)
                since = self._stopped_since.setdefault(sequence, round_.now)
                round_.closed |= round_.now - since < _LOAD_SECONDS
            else:
                round_.closed = True
        elif (
            round_.in_use is None and outcome is Outcome.NO_ROOM and self._insists(sequence, round_)
        ):
            self._drain(sequence, round_)

    def _drain(self, sequence: Sequence, round_: Round) -> None:
        """Let no more sequences use the adapters that will be idle soonest, as many as make room for the sequence's."""
        left: dict[int, int] = {}
        for other in self._running:
            if (handle := other.request.adapter) is not None:
                tokens = other.max_len - len(other.tokens)
                left[handle] = max(tokens, left.get(handle, 0))
        if self._drained_for is not sequence or self._draining.isdisjoint(left):
            self._drained_for = sequence
            self._draining = set()
            wanted = self._pages(sequence.request.adapter)
            for handle in sorted(left, key=left.__getitem__):
                if wanted <= 0:
                    break
                self._draining.add(handle)
                wanted -= self._pages(handle)
        round_.in_use = set(left) - self._draining
        round_.closed |= not left  # what is in the way is no adapter

    def _pages(self, handle: int | None) -> int:
        return 0 if handle is None else self._adapters.pages(handle) or 0

    def _refuse(self, sequence: Sequence, error: str, round_: Round) -> None:
        round_.failed.append((sequence, error))
        self.drop(sequence)


_OUTCOMES = {
    Residency.READY: Outcome.ADMITTED,
    Residency.LOADING: Outcome.LOADING,
    Residency.FULL: Outcome.NO_ROOM,
    Residency.FAILED: Outcome.FAILED,
}


_HERE = (Outcome.ADMITTED, Outcome.NO_ROOM)
