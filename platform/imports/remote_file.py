"""Owns reading one file over HTTP that may be large and whose connection may break: it is then continued where it
ended, as long as it is still the same file."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from loraplex.platform.errors import BadRequestError, UnprocessableError
from loraplex.platform.outbound import RefusedTargetError

ATTEMPTS = 5  # in a row without progress
PAUSE_SECONDS = 1.0  # after the first of them; it grows with each
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class RemoteStatusError(Exception):
    """The server answered, and not with the file."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.status = response.status_code
        self.code = response.headers.get("x-error-code", "")


class RemoteFile:
    """A file that is being read.

    Attributes:
        size: its bytes, None if the server does not say.
        etag: what the server calls this content; empty if it does not.
        hops: headers of every answer on the way to it, redirects first.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: Callable[[], str],
        headers: Mapping[str, str],
    ) -> None:
        self._client = client
        self._url = url
        # Compressed, little on the wire could be much in memory.
        self._headers = {"accept-encoding": "identity", **headers}
        self._response: httpx.Response | None = None
        self.size: int | None = None
        self.etag = ""
        self.hops: tuple[httpx.Headers, ...] = ()

    async def open(self) -> None:
        """Ask for the file.

        Raises:
            RemoteStatusError: the server has an answer, and it is no file.
            UnprocessableError: it cannot be reached, or answers in no way that can be used.
        """
        response = await self._request(0)
        length = response.headers.get("content-length", "")
        self.size = int(length) if length.isdigit() else None
        self.etag = response.headers.get("etag", "")
        self.hops = tuple(r.headers for r in (*response.history, response))

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes in order.

        Raises:
            UnprocessableError: connections break without end, or the file has changed meanwhile.
        """
        position, failures = 0, 0
        while True:
            assert self._response is not None
            try:
                async for piece in self._response.aiter_raw(256 * 1024):
                    position += len(piece)
                    failures = 0
                    yield piece
                return
            except httpx.TransportError as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise _broken() from error
            await self.close()
            await asyncio.sleep(PAUSE_SECONDS * failures)
            if not self._continues(await self._request(position), position):
                raise UnprocessableError(
                    "The connection broke and the file could not be continued; import again."
                )

    def _continues(self, response: httpx.Response, position: int) -> bool:
        """Whether an answer begins there, in the same content as the first one."""
        start = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        first = int(start[1]) if start is not None and response.status_code == 206 else 0
        return first == position and response.headers.get("etag", "") == self.etag

    async def close(self) -> None:
        """Let the connection go."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def _request(self, position: int) -> httpx.Response:
        headers = {**self._headers, "range": f"bytes={position}-"} if position else self._headers
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = self._client.build_request("GET", self._url(), headers=headers)
                response = await self._client.send(request, stream=True, follow_redirects=True)
            except RefusedTargetError as error:
                raise BadRequestError(str(error), param="source") from error
            except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
                raise UnprocessableError("The server redirects to where nothing is.") from error
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise _broken() from error
            else:
                if response.is_success:
                    self._response = response
                    return response
                await response.aclose()
                if response.status_code not in _TRY_AGAIN or attempt == ATTEMPTS:
                    raise RemoteStatusError(response)
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")


@asynccontextmanager
async def remote_file(
    client: httpx.AsyncClient,
    url: Callable[[], str],
    headers: Mapping[str, str],
) -> AsyncGenerator[RemoteFile]:
    """A file opened for one reading; see `RemoteFile.open` for what it raises.

    Args:
        url: called for each request: signatures end.
    """
    file = RemoteFile(client, url, headers)
    await file.open()
    try:
        yield file
    finally:
        await file.close()


def _broken() -> UnprocessableError:
    return UnprocessableError(
        f"The connection broke {ATTEMPTS} times without progress; import again later.",
    )
