"""Owns HTTP to hosts that tenants name: which URLs may be asked, and a client that resolves a name once, checks the
addresses and connects to one of these. A name that resolves otherwise the next moment leads nowhere else."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property

import httpx

from loraplex.platform.public_addresses import is_public

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
# Below 1024 other ports speak other protocols: nobody shall use us to talk to a mail server.
_LOW_PORTS = {"https": {443}, "http": {80, 443}}
_HIGH_PORTS = range(1024, 65536)


class RefusedTargetError(Exception):
    """A URL that is not asked; the message is one sentence for whoever gave it."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, by the system's resolver.

    Raises:
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Outbound:
    """What may be asked, and the client that asks.

    Args:
        allow_http: whether plain HTTP will do.
        allow_hosts: names or addresses that may be anywhere and listen on any port; the operator's own.
        ssl_context: whom TLS trusts; else what httpx does, which `SSL_CERT_FILE` changes.
    """

    def __init__(
        self,
        *,
        allow_http: bool = False,
        allow_hosts: Sequence[str] = (),
        resolve: Resolve = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._schemes = {"https", "http"} if allow_http else {"https"}
        self._allowed = {host.lower() for host in allow_hosts}
        self._resolve = resolve
        self._given_context = ssl_context

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        # Reading the authorities takes some 50 ms, which no process pays that asks nobody.
        return self._given_context or httpx.create_ssl_context()

    def check(self, url: str | httpx.URL) -> httpx.URL:
        """The URL, if it may be asked as far as can be told without resolving its host.

        Raises:
            RefusedTargetError: it may not.
        """
        try:
            parsed = httpx.URL(url)
            _host(parsed).encode("idna")  # as name lookup does
        except (httpx.InvalidURL, UnicodeError):
            raise RefusedTargetError("This is not a URL; write https://HOST/PATH.") from None
        # Characters that no host has come back escaped.
        if parsed.scheme not in self._schemes or not parsed.host or "%" in parsed.host:
            raise RefusedTargetError(
                f"A URL must begin with {' or '.join(sorted(self._schemes))}://HOST."
            )
        if parsed.userinfo:
            raise RefusedTargetError("A URL must not hold a user or a password.")
        if _host(parsed) in self._allowed:
            return parsed
        port = _port(parsed)
        if port not in _HIGH_PORTS and port not in _LOW_PORTS[parsed.scheme]:
            raise RefusedTargetError("The port must be 443, or 1024 and above.")
        if _is_address(_host(parsed)) and not is_public(_host(parsed)):
            raise _not_public()
        return parsed

    async def addresses(self, url: httpx.URL) -> Sequence[str]:
        """The addresses at which the host of a checked URL may be asked now.

        Raises:
            RefusedTargetError: one of them is not public.
            OSError: it has none.
        """
        found = await self._resolve(_host(url), _port(url))
        if _host(url) not in self._allowed and not all(map(is_public, found)):
            raise _not_public()
        return found

    def client(self, seconds: float) -> httpx.AsyncClient:
        """A client for checked URLs: follows no redirect, uses no proxy and keeps no
        connection. Whoever makes it closes it.

        Args:
            seconds: how long connecting, writing, and each wait for more of an answer may take.
        """
        return httpx.AsyncClient(
            transport=_CheckedTransport(self, self._ssl_context),
            timeout=seconds,
            follow_redirects=False,
            trust_env=False,
        )


class _CheckedTransport(httpx.AsyncBaseTransport):
    """Checks at the moment of connecting, each time, and connects to an address instead of a name."""

    def __init__(self, outbound: Outbound, context: ssl.SSLContext) -> None:
        self._outbound = outbound
        # Connections are told apart by address. Kept ones could carry a request to another name at the same address,
        # whose certificate nobody has looked at.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = self._outbound.check(request.url)
        try:
            addresses = await self._outbound.addresses(url)
        except OSError:
            raise httpx.ConnectError(
                "The name of the host does not resolve", request=request
            ) from None
        failed: httpx.TransportError = httpx.ConnectError(
            "The host has no address", request=request
        )
        for address in addresses:
            # TLS asks for and verifies the name, not the address; the header Host has the name already.
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": _host(url)},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error  # nothing was sent
        raise failed

    async def aclose(self) -> None:
        await self._inner.aclose()


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower()


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else 443 if url.scheme == "https" else 80


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _not_public() -> RefusedTargetError:
    # Not the address: it may be a name that only our network's resolver knows.
    return RefusedTargetError(
        "The host does not lead to the public internet; ask the operator to allow it."
    )
