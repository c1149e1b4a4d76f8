"""Owns the order of waiting requests: fair between clients, then by priority, then fair between a client's adapters,
then first come, first served.

Who waits in vain is the scheduler's business: it parks what cannot run now, and what is parked costs nothing until it
is put back. Every operation takes O(log n) steps on average, however many requests, adapters and clients wait.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from loraplex.engine.accounts import AdapterAccount, ClientAccount
from loraplex.engine.growing_heap import GrowingHeap, Key
from loraplex.engine.sequence import Sequence

# A client's oldest waiting request lets at most this many later ones of the same client pass because of their better
# priority; then it is the client's next. One in 65 costs urgent requests about 1.5 %.
MAX_OUTRANKED = 64


@dataclass(slots=True, eq=False)
class Lane:
    """Waiting requests of one client with one priority and one adapter, by arrival."""

    client: "Client"
    priority: int
    account: AdapterAccount
    sequences: OrderedDict[int, Sequence] = field(default_factory=OrderedDict)
    parked: bool = False

    @property
    def head(self) -> Sequence:
        return next(iter(self.sequences.values()))

    def key(self) -> Key:
        return self.priority, self.account.counter, next(iter(self.sequences))

    def level(self) -> Key:
        return (self.account.counter,)


@dataclass(slots=True, eq=False)
class Client:
    """Attributes:
    accounts: of the adapters it used since it was last idle.
    waiting: its requests by arrival.
    order: its lanes that are not parked, in the order of their turns.
    levels: all its lanes by counter.
    last, last_level: whose turn was the last, and the highest counter that had a turn.
    outranked: how many later requests have passed the oldest one, which arrived as number `outranked_one`.
    paused: whether it is out of the order with everything it has.
    """

    account: ClientAccount
    accounts: dict[int | None, AdapterAccount] = field(default_factory=dict)
    lanes: dict[tuple[int, int | None], Lane] = field(default_factory=dict)
    waiting: OrderedDict[int, Sequence] = field(default_factory=OrderedDict)
    order: GrowingHeap[Lane] = field(default_factory=lambda: GrowingHeap(Lane.key))
    levels: GrowingHeap[Lane] = field(default_factory=lambda: GrowingHeap(Lane.level))
    last: AdapterAccount | None = None
    last_level: float = 0.0
    outranked: int = 0
    outranked_one: int = -1
    paused: bool = False

    @property
    def oldest(self) -> Sequence:
        return next(iter(self.waiting.values()))

    def key(self) -> Key:
        return self.account.counter, next(iter(self.waiting))


class FairQueue:
    """Waiting requests. Clients are remembered for ever, as one that comes back keeps its debts: about a kilobyte for
    each tenant of the server."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._order: GrowingHeap[Client] = GrowingHeap(Client.key)
        self._levels: GrowingHeap[Client] = GrowingHeap(Client.key)  # paused ones too
        self._last: ClientAccount | None = None
        self._last_level = 0.0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence.arrival in self._client(sequence).waiting

    def account(self, sequence: Sequence) -> AdapterAccount:
        """Where the sequence's tokens are charged."""
        client = self._client(sequence)
        handle = sequence.request.adapter
        account = client.accounts.get(handle)
        if account is None:
            account = client.accounts[handle] = AdapterAccount(client.account)
        return account

    def add(self, sequence: Sequence) -> None:
        """Queue a request behind those of its kind. A client or adapter that had none waiting starts level with the one
        that waits and has had least, so that time in which it asked for nothing earns it nothing."""
        client, request = self._client(sequence), sequence.request
        account = sequence.account
        assert account is not None
        client.account.weight = request.share.weight
        if not client.waiting:
            least = self._levels.first()
            level = self._last_level
            if least is not None:
                level = max(level, least.account.counter)
            elif self._last is not None:
                level = self._last.counter
            client.account.counter = max(client.account.counter, level)
        key = (request.priority, request.adapter)
        lane = client.lanes.get(key)
        if lane is None:
            lowest = client.levels.first()
            level = client.last_level
            if lowest is not None:
                level = max(level, lowest.account.counter)
            elif client.last is not None:
                level = client.last.counter
            account.counter = max(account.counter, level)
            lane = client.lanes[key] = Lane(client, request.priority, account)
        client.waiting[sequence.arrival] = lane.sequences[sequence.arrival] = sequence
        self._size += 1
        if lane not in client.levels:
            client.levels.add(lane)
        if client not in self._levels:
            self._levels.add(client)
        self.put_back(lane, parked=lane.parked)

    def remove(self, sequence: Sequence) -> None:
        """Take a request out."""
        client, lane = self._client(sequence), self.lane(sequence)
        del client.waiting[sequence.arrival], lane.sequences[sequence.arrival]
        self._size -= 1
        if not lane.sequences:
            del client.lanes[lane.priority, sequence.request.adapter]
            client.order.discard(lane)
            client.levels.discard(lane)
        if not client.waiting:
            self._order.discard(client)
            self._levels.discard(client)

    def admit(self, sequence: Sequence) -> None:
        """Take a request out because it runs."""
        client, account = self._client(sequence), sequence.account
        oldest = client.oldest
        if client.outranked_one != oldest.arrival:
            client.outranked, client.outranked_one = 0, oldest.arrival
        if oldest.request.priority > sequence.request.priority:
            client.outranked += 1
        self.remove(sequence)
        assert account is not None
        client.last, self._last = account, client.account
        client.last_level = max(client.last_level, account.counter)
        self._last_level = max(self._last_level, client.account.counter)

    def first(self) -> Sequence | None:
        """The request whose turn it is; None if there is none that is not parked."""
        while (client := self._order.first()) is not None:
            lane = client.order.first()
            if lane is None:
                self._order.discard(client)
                continue
            if client.outranked >= MAX_OUTRANKED:
                oldest = client.oldest
                if client.outranked_one == oldest.arrival and not self.lane(oldest).parked:
                    return oldest
            return lane.head
        return None

    def lane(self, sequence: Sequence) -> Lane:
        """The lane of a request that waits."""
        request = sequence.request
        return self._client(sequence).lanes[request.priority, request.adapter]

    def park(self, lane: Lane) -> None:
        """Take a lane out of the order, also for requests that join it."""
        lane.parked = True
        lane.client.order.discard(lane)

    def put_back(self, lane: Lane, *, parked: bool = False) -> None:
        lane.parked = parked
        client = lane.client
        if parked or not lane.sequences:
            return
        if lane not in client.order:
            client.order.add(lane)
        self._enter(client)

    def pause(self, sequence: Sequence) -> None:
        """Take the whole client of a request out of the order, until one of its sequences has ended."""
        client = self._client(sequence)
        client.paused = True
        self._order.discard(client)

    def ended(self, number: int) -> None:
        """A sequence of a client that was admitted has left the engine."""
        client = self._clients[number]
        client.paused = False
        self._enter(client)
        if not client.waiting and not client.account.running:
            client.accounts.clear()
            client.last = None
            client.last_level = 0.0

    def _client(self, sequence: Sequence) -> Client:
        number = sequence.request.share.client
        client = self._clients.get(number)
        if client is None:
            client = self._clients[number] = Client(ClientAccount(number))
        return client

    def _enter(self, client: Client) -> None:
        if client.waiting and not client.paused and client not in self._order:
            self._order.add(client)
