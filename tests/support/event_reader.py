"""Owns reading an event stream of an app in process, as it comes: httpx's transport would wait for its end."""

import asyncio
import json
from types import TracebackType
from typing import NamedTuple

from litestar import Litestar

from support.patience import PATIENCE_SECONDS


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: dict[str, object]


class EventReader:
    """A client of one stream. Use as an async context manager, the end of which is that the client goes."""

    def __init__(self, app: Litestar, path: str, headers: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._app = app
        self._scope: dict[str, object] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("test", 80),
            "headers": [(k.encode(), v.encode()) for k, v in {"host": "test", **headers}.items()],
        }  # fmt: skip
        self._asked = False
        self._gone = asyncio.Event()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __aenter__(self) -> "EventReader":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gone.set()
        await asyncio.wait_for(self._task, PATIENCE_SECONDS)

    async def next(self) -> Event | None:
        """The next event, None at the end of the stream; fails when neither comes."""
        chunk = await asyncio.wait_for(self._chunks.get(), PATIENCE_SECONDS)
        if chunk is None:
            return None
        name, data = chunk.decode().strip().split("\n")
        return Event(name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))

    async def last(self) -> Event:
        """Read on to the end; the event before it."""
        event = await self.next()
        assert event is not None
        while (following := await self.next()) is not None:
            event = following
        return event

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)  # type: ignore[arg-type]
        self._chunks.put_nowait(None)

    async def _receive(self) -> dict[str, object]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            status, headers = message["status"], message["headers"]
            assert isinstance(status, int)
            self.status = status
            self.headers = {k.decode(): v.decode() for k, v in headers}  # type: ignore[attr-defined]
        elif body := message.get("body"):
            assert isinstance(body, bytes)
            self._chunks.put_nowait(body)
