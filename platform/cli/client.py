"""Owns the HTTP client behind the client commands: where the server is, which key to show it, and one sentence for
whatever goes wrong."""

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

import click
import httpx
import msgspec

DEFAULT_URL = "http://127.0.0.1:8000"
Json = dict[str, object]


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
        key = os.environ.get("LORAPLEX_API_KEY", "")
        if not key:
            raise click.ClickException("Set LORAPLEX_API_KEY to an API key first.")
        return cls(os.environ.get("LORAPLEX_URL") or DEFAULT_URL, key)

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

    def _send(
        self, method: str, path: str, *, json: object, params: Mapping[str, str] | None
    ) -> Json:
        try:
            return self._read(self._http.request(method, path, json=json, params=params))
        except httpx.TransportError as error:
            raise click.ClickException(
                f"{self._url} cannot be reached ({error}); check LORAPLEX_URL."
            ) from error
        except httpx.InvalidURL as error:
            raise click.ClickException(f"LORAPLEX_URL is not a URL: {error}.") from error

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
        param = body.get("param")
        # Most sentences name the field themselves.
        raise click.ClickException(
            f"{param}: {detail}" if param and str(param) not in detail else detail
        )


def rows(answer: Json) -> list[Json]:
    """The elements of a list answer."""
    data = answer.get("data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
