"""Owns running an asynchronous context in a thread, for tests that wait the ordinary way."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from support.patience import PATIENCE_SECONDS


@contextmanager
def in_background(context: AbstractAsyncContextManager[object]) -> Iterator[None]:
    """Enter `context` in an event loop of its own, and leave it with the block.

    Raises:
        Exception: what it raised.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="background")
    thread.start()
    ended = asyncio.Event()
    entered = threading.Event()

    async def stay() -> None:
        # In one task from beginning to end.
        try:
            async with context:
                entered.set()
                await ended.wait()
        finally:
            entered.set()

    staying = asyncio.run_coroutine_threadsafe(stay(), loop)
    try:
        assert entered.wait(PATIENCE_SECONDS)
        if staying.done():
            staying.result()
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        try:
            staying.result(PATIENCE_SECONDS)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
