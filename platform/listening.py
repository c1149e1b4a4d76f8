"""Owns the sockets on which API workers take connections."""

import socket
import sys

_BACKLOG = 2048


def open_listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """A listening socket for each worker, all at one address; port 0 takes a free one.

    From a shared socket whoever wakes first takes most connections: of 128 that came at once to 4 workers one got 59 %,
    another 5 %. Between several the kernel spreads them evenly. They belong to the caller, so connections to a worker
    that has died wait for its successor.

    Raises:
        OSError: the address cannot be had.
        OverflowError: there is no such port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without sharing the port, so that another service on it is noticed.
    listeners = [socket.create_server((host, port), family=family, backlog=_BACKLOG)]
    if workers == 1:
        return listeners
    if sys.platform != "linux":  # others do not spread connections, or not evenly
        return listeners * workers
    with listeners.pop() as first:
        address = first.getsockname()
    try:
        listeners.extend(
            socket.create_server(address, family=family, backlog=_BACKLOG, reuse_port=True)
            for _ in range(workers)
        )
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
