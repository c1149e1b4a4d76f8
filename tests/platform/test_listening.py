"""Sockets of API workers: one each at one address, which nobody else has."""

import socket
import sys
from collections.abc import Iterator

import pytest

from loraplex.platform.listening import open_listeners

WORKERS = 2


@pytest.fixture(params=["127.0.0.1", "::1"])
def listeners(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    try:
        opened = open_listeners(request.param, 0, WORKERS)
    except OSError:
        pytest.skip("this machine has no such addresses")
    yield opened
    for listener in opened:
        listener.close()


def connect(listeners: list[socket.socket], count: int) -> list[socket.socket]:
    address = listeners[0].getsockname()[:2]
    return [socket.create_connection(address) for _ in range(count)]


def accept_all(listener: socket.socket) -> int:
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all workers share one socket")
def test_connections_are_spread(listeners: list[socket.socket]) -> None:
    clients = connect(listeners, 40)
    counts = [accept_all(listener) for listener in listeners]
    for client in clients:
        client.close()
    # That all of 40 go to one happens once in 500 thousand million runs.
    assert len(counts) == WORKERS
    assert sum(counts) == 40
    assert all(counts)


def test_connections_to_a_worker_that_died_wait_for_its_successor(
    listeners: list[socket.socket],
) -> None:
    for listener in listeners:  # what a worker inherits, and what its end closes
        listener.dup().close()
    clients = connect(listeners, 8)
    assert sum(accept_all(listener) for listener in listeners) == 8
    for client in clients:
        client.close()


def test_an_address_in_use_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        for workers in (1, WORKERS):
            with pytest.raises(OSError, match="in use"):
                open_listeners("127.0.0.1", other.getsockname()[1], workers)
