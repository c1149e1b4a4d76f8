"""Owns the HTTP client behind the client commands: where the server is, which key to show it, and one sentence for
whatever goes wrong."""

import os
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import quote

import click
import httpx
import msgspec

DEFAULT_URL = "http://127.0.0.1:8000"
_VISIBLE_ASCII = re.compile(r"[!-~]+")
Json = dict[str, object]


def address_from_environment() -> tuple[str, str]:
    """The URL in `LORAPLEX_URL` and the key in `LORAPLEX_API_KEY`, both fit to be sent.

    Raises:
        click.ClickException: no key, or one of the two cannot be what it should; never shows the key.
    """
    key = os.environ.get("LORAPLEX_API_KEY", "")
    if not key:
        raise click.ClickException("Set LORAPLEX_API_KEY to an API key first.")
    if not _VISIBLE_ASCII.fullmatch(key):
        raise click.ClickException(
            "LORAPLEX_API_KEY has a space, a line break or another character that no API key has; "
            "set it to the key alone."
        )
    url = os.environ.get("LORAPLEX_URL") or DEFAULT_URL
    if not _is_server(url):
        raise click.ClickException("LORAPLEX_URL is not a URL; write http://HOST:PORT.")
    return url, key


def api_path(*parts: str) -> str:
    """The path of an object of the management API. Parts are names that users type, so each stays one part.

    Raises:
        click.ClickException: a part that would name another object.
    """
    for part in parts:
        # Servers decode an escaped slash before they route, so escaping alone would not do.
        if part in ("", ".", "..") or "/" in part:
            raise click.ClickException(
                f"{part!r} cannot be a name; names have letters, digits, dots, dashes and underscores."
            )
    return "/".join(("/api/v1", *(quote(part, safe="") for part in parts)))


class ApiClient:
    """The management API of one server.

    Raises:
        click.ClickException: from every method, when the server cannot be reached or refuses.
    """

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(600, connect=10),
        )
        self._url = url

    @classmethod
    def from_environment(cls) -> "ApiClient":
        """The server `LORAPLEX_URL` names, with the key in `LORAPLEX_API_KEY`."""
        return cls(*address_from_environment())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """One request with an optional JSON body; the JSON answer, empty if there is none."""
        return self._send(method, path, json=body, params=query)

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Json]:
        """Every element of a paged list."""
        after: str | None = ""
        while after is not None:
            page = self.call("GET", path, query={**(query or {}), "after": after})
            yield from rows(page)
            following = page.get("next")
            after = following if isinstance(following, str) else None

    def put_bytes(
        self,
        path: str,
        content: Iterator[bytes],
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Send a raw body.

        Raises:
            httpx.TransportError: the connection broke; the upload can be resumed.
        """
        answer = self._http.put(path, content=content, headers=dict(headers), params=query)
        return self._read(answer)

    def get_bytes(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """The raw body of an answer, piece by piece."""
        try:
            with self._http.stream("GET", path, params=query) as answer:
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                yield from answer.iter_bytes()
        except httpx.TransportError as error:
            raise click.ClickException(f"The connection to {self._url} broke ({error}).") from error

    def _send(
        self, method: str, path: str, *, json: object, params: Mapping[str, str] | None
    ) -> Json:
        try:
            return self._read(self._http.request(method, path, json=json, params=params))
        except httpx.TransportError as error:
            raise click.ClickException(
                f"{self._url} cannot be reached ({error}); check LORAPLEX_URL."
            ) from error

    def _read(self, answer: httpx.Response) -> Json:
        try:
            body = msgspec.json.decode(answer.content) if answer.content else {}
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            raise click.ClickException(
                f"{self._url} answered {answer.status_code} and not in JSON; is it a loraplex server?"
            )
        if answer.is_success:
            return body
        detail = str(body.get("detail") or f"The server answered {answer.status_code}.")
        # The server speaks of its query, commands of their options.
        detail = detail.replace("?tenant=NAME", "--tenant NAME")
        param = body.get("param")
        # Most sentences name the field themselves.
        raise click.ClickException(
            f"{param}: {detail}" if param and str(param) not in detail else detail
        )


def rows(answer: Json) -> list[Json]:
    """The elements of a list answer."""
    data = answer.get("data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def _is_server(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as name lookup does
    except (httpx.InvalidURL, UnicodeError):
        return False
    # Characters that no host has come back escaped; only an IPv6 zone is written with a percent sign.
    named = parsed.host != "" and (":" in parsed.host or "%" not in parsed.host)
    reachable = parsed.port is None or 0 < parsed.port <= 65535
    return parsed.scheme in ("http", "https") and named and reachable
