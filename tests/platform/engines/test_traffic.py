"""Series of single adapters and the one of all others only ever grow, whoever is busiest."""

import random

from loraplex.platform.engines import traffic
from loraplex.platform.engines.messages import AdapterState, Traffic
from loraplex.platform.engines.traffic import TrafficBook


def described(book: TrafficBook, *others: str) -> list[AdapterState]:
    """States of everybody with an account, and of `others`."""
    book.rank()
    states = [AdapterState(identity) for identity in (*book.identities(), *others)]
    for state in states:
        book.add_to(state)
    return states


def test_series_only_grow_and_add_up_to_everything() -> None:
    book, dice = TrafficBook(), random.Random(0)
    before: dict[str, Traffic] = {}
    tokens = 0
    for _ in range(300):
        # Favourites change, so adapters enter and leave the named ones.
        favourite = dice.randrange(60)
        for name in (f"t/{favourite}", f"t/{dice.randrange(60)}"):
            account = book.account(name)
            account.begin(3)
            wrote = dice.randrange(50)
            account.output_tokens += wrote
            account.end()
            tokens += wrote
        states = described(book)
        named = {state.identity: state.series for state in states if state.series is not None}
        assert len(named) <= traffic.NAMED
        assert sum(state.output_tokens for state in states) == tokens
        for identity, now in {**named, "other": book.other}.items():
            assert all(a <= b for a, b in zip(before.get(identity, Traffic()), now, strict=True))
            before[identity] = now
    assert sum(series.output_tokens for series in before.values()) == tokens


def test_the_busiest_are_named() -> None:
    book = TrafficBook()
    for number in range(traffic.NAMED + 5):
        book.account(f"t/{number}").begin(number)
    named = {state.identity for state in described(book) if state.series is not None}
    assert named == {f"t/{number}" for number in range(5, traffic.NAMED + 5)}


def test_adapters_in_memory_without_traffic_are_described_too() -> None:
    book = TrafficBook()
    book.account("t/asked").begin(1)
    states = {state.identity: state for state in described(book, "t/there")}
    assert states["t/there"].requests == 0
    assert states["t/asked"].requests == 1
    book.forget("t/asked")
    assert described(book) == []
