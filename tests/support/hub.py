"""Owns a real HTTP server that answers as the Hugging Face Hub does: files by repository and revision, the commit in a
header, large ones behind a redirect to a server of another name."""

import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "abcd"
MOVED = "decade" * 6 + "abcd"


@dataclass
class Hub:
    """What it serves, and what it was asked.

    Attributes:
        files: by repository, then by name.
        token: who asks must present it, if it is set.
        breaks: how many of the next large answers break off in the middle.
        gate: bodies of large files wait for it.
        asked: path and `Authorization` of each request; those to the other server begin with its name.
        redirect: where large files are, if not at the second server.
        etag: of large files, if not their digest.
        status: what the next requests are answered with instead of a file.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    breaks: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    redirect: str | None = None
    etag: str | None = None
    status: list[int] = field(default_factory=list)
    commit: str = COMMIT
    url: str = ""
    cdn: str = ""


@contextmanager
def hub_server() -> Generator[Hub]:
    """A server on two ports: of the Hub and of what it redirects to."""
    hub = Hub()
    hub.gate.set()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, cdn)) for cdn in (False, True)]
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def _handler(hub: Hub, cdn: bool) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # one class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((f"cdn{path}" if cdn else path, self.headers.get("authorization")))
            if hub.status and not cdn:
                self._answer(hub.status.pop(0), {}, b"")
                return
            data = self._find(path)
            if data is None:
                return
            if cdn:
                self._send(data)
            elif len(data) < 10_000:
                self._answer(200, {"x-repo-commit": hub.commit, "etag": '"0123"'}, data)
            else:
                self._answer(
                    302,
                    {
                        "x-repo-commit": hub.commit,
                        "x-linked-etag": hub.etag or f'"{hashlib.sha256(data).hexdigest()}"',
                        "x-linked-size": str(len(data)),
                        "location": hub.redirect or f"{hub.cdn}{self.path}?signature=x",
                    },
                    b"",
                )

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def _find(self, path: str) -> bytes | None:
            owner, name, _, rest = path.lstrip("/").split("/", 3)
            repo = hub.files.get(f"{owner}/{name}")
            refused = hub.token and self.headers.get("authorization") != f"Bearer {hub.token}"
            if repo is None or (refused and not cdn):
                self._answer(401, {"x-error-code": "RepoNotFound"}, b"")
                return None
            # A revision may have slashes in it; which file is meant is told by its end.
            for file, data in repo.items():
                if rest.endswith(f"/{file}"):
                    return data
            self._answer(404, {"x-error-code": "EntryNotFound"}, b"")
            return None

        def _send(self, data: bytes) -> None:
            hub.gate.wait(60)
            wanted = self.headers.get("range", "")
            first = int(wanted[6:].rstrip("-")) if wanted else 0
            headers = {"etag": '"cdn"', "content-length": str(len(data) - first)}
            if wanted:
                headers["content-range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            body = data[first:]
            if hub.breaks:
                hub.breaks -= 1
                body = body[: len(body) // 2]
                self.close_connection = True
            self._answer(206 if wanted else 200, headers, body)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
