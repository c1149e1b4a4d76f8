"""Owns describing an engine process to those who ask, a few adapters at a time: thousands at once would hold up a
step."""

from collections.abc import Iterator

from loraplex.platform.engines.messages import AdapterState, Description
from loraplex.platform.engines.residents import Residents
from loraplex.platform.engines.traffic import TrafficBook

# Adapters described between two steps: about 0.3 ms beside steps of 4 ms and more.
SLICE = 50

Reply = tuple[bytes, Description]  # routing id and answer


class Descriptions:
    """One pass over all adapters at a time, for everybody who had asked when it began."""

    def __init__(self, residents: Residents, traffic: TrafficBook) -> None:
        self._residents = residents
        self._traffic = traffic
        self._asked: list[tuple[bytes, int]] = []
        self._answering: list[tuple[bytes, int]] = []
        self._rows: Iterator[AdapterState] | None = None
        self._states: list[AdapterState] = []

    def __bool__(self) -> bool:
        return bool(self._asked or self._answering)

    def ask(self, routing_id: bytes, number: int) -> None:
        """Somebody wants a description that is not older than this call."""
        self._asked.append((routing_id, number))

    def proceed(self, *, whole: bool) -> list[Reply]:
        """Describe some more adapters, or all that are left; answers if that was the end."""
        if self._rows is None:
            self._answering, self._asked = self._asked, []
            self._rows, self._states = self._all(), []
        for state in self._rows:
            self._states.append(state)
            if not whole and len(self._states) % SLICE == 0:
                return []
        self._rows = None
        other = self._traffic.other
        answering, self._answering = self._answering, []
        return [(client, Description(n, self._states, other)) for client, n in answering]

    def _all(self) -> Iterator[AdapterState]:
        """Adapters in memory, then all others that were ever asked for."""
        self._traffic.rank()
        there = set()
        for state in self._residents.states():
            there.add(state.identity)
            self._traffic.add_to(state)
            yield state
        for identity in self._traffic.identities():
            if identity not in there:
                state = AdapterState(identity)
                self._traffic.add_to(state)
                yield state
