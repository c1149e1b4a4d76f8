"""Owns which API workers wait for the end of which purge in an engine process."""

from typing import NamedTuple

import msgspec

from loraplex.platform.engines.messages import Purge, Purged
from loraplex.platform.engines.residents import Residents

Reply = tuple[bytes, Purged]  # routing id and answer


class _Wish(NamedTuple):
    routing_id: bytes
    number: int
    requests: int


class Purges:
    """Purges under way, one at a time for each adapter: one that is asked for while another runs begins after it, as
    the adapter may have been brought back in between."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents
        self._wishes: dict[str, list[_Wish]] = {}  # by identity; the first is under way

    def __bool__(self) -> bool:
        return bool(self._wishes)

    def ask(self, routing_id: bytes, message: Purge, unfinished: int) -> None:
        """Begin a purge, unless it is the same wish once more. `unfinished`: requests it will end."""
        wishes = self._wishes.setdefault(message.identity, [])
        if any(w.routing_id == routing_id and w.number == message.number for w in wishes):
            return
        wishes.append(_Wish(routing_id, message.number, unfinished))
        if len(wishes) == 1:
            self._residents.purge(message.identity)

    def ended(self) -> list[Reply]:
        """Answers to those that have ended since the last call."""
        replies: list[Reply] = []
        for purged in self._residents.purged():
            wishes = self._wishes.get(purged.identity)
            if not wishes:
                continue
            wish = wishes.pop(0)
            answer = msgspec.structs.replace(purged, number=wish.number, requests=wish.requests)
            replies.append((wish.routing_id, answer))
            if wishes:
                self._residents.purge(purged.identity)
            else:
                del self._wishes[purged.identity]
        return replies
