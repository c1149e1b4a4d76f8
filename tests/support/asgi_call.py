"""Owns one request to an app as a server would make it: what leaves is seen the moment it leaves, and the client can go
away."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar

from support.services import bearer


class AsgiCall:
    """A POST of JSON that runs.

    Attributes:
        sent: the parts of the body that have left. task: ends when all have.
    """

    def __init__(self, app: Litestar, path: str, key: str, body: object) -> None:
        self.sent: list[bytes] = []
        self.status = 0
        self._body = json.dumps(body).encode()
        self._asked = False
        self._left = asyncio.Event()
        headers = {**bearer(key), "content-type": "application/json", "host": "test"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": urlsplit(path).path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        # The ignore: Litestar's ASGI types are narrower than the protocol's own.
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))  # type: ignore[arg-type]

    @property
    def body(self) -> bytes:
        """All that has left."""
        return b"".join(self.sent)

    def leave(self) -> None:
        """The client closes its connection."""
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body"):
            self.sent.append(message["body"])
