"""Owns what a request tells of the way it came: the client's address, whether the browser sees https, and whether a
page of ours sent it. Headers of proxies count only from proxies that the operator trusts."""

import ipaddress
from urllib.parse import urlsplit

from litestar.types import Scope

from loraplex.platform.errors import PermissionDeniedError
from loraplex.platform.settings import Settings, SettingsError

# Names by which a browser reaches its own machine; over plain http it trusts these alone.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


class Edge:
    """Reads requests as the service's own settings say.

    Raises:
        SettingsError: `public_url` is no URL, or a trusted proxy no network.
    """

    def __init__(self, settings: Settings) -> None:
        self._public_url = settings.public_url.rstrip("/")
        self._public = _public(settings.public_url)
        self._always_secure = settings.cookie_secure or self._public[0] == "https"
        try:
            self._trusted = [ipaddress.ip_network(text) for text in settings.trusted_proxies]
        except ValueError as error:
            raise SettingsError(
                f"--trusted-proxies: {error}; write addresses or networks such as 10.0.0.0/8."
            ) from error

    def address(self, scope: Scope) -> str:
        """Where a request comes from, without the proxies in between; empty if unknown."""
        peer = _peer(scope)
        if not self._trusts(peer):
            return peer
        forwarded = header(scope, b"x-forwarded-for").split(",")
        # From the right: what stands left of the first address that is no proxy of ours is the client's own word.
        for hop in reversed([hop.strip() for hop in forwarded if hop.strip()]):
            try:
                peer = str(ipaddress.ip_address(hop))
            except ValueError:
                return peer
            if not self._trusts(peer):
                return peer
        return peer

    def is_secure(self, scope: Scope) -> bool:
        """Whether the browser speaks https, with us or with the proxy in front."""
        if self._always_secure or scope["scheme"] == "https":
            return True
        peer = _peer(scope)
        forwarded = header(scope, b"x-forwarded-proto").rpartition(",")[2].strip().lower()
        return forwarded == "https" and self._trusts(peer)

    def base_url(self, scope: Scope) -> str:
        """Where browsers find this service, without a slash at the end."""
        if self._public_url:
            return self._public_url
        scheme = "https" if self.is_secure(scope) else "http"
        return f"{scheme}://{header(scope, b'host')}"

    def require_private(self, scope: Scope) -> None:
        """Passwords and sessions travel by https, on the machine itself, or in clear where the operator says so.

        Raises:
            PermissionDeniedError: plain http to another host, and no `--public-url` that begins with http.
        """
        host = _split(header(scope, b"host"))[0]
        if not (self.is_secure(scope) or self._public[0] == "http" or host in LOOPBACK):
            raise PermissionDeniedError(
                "Signing in needs https; use it, or let the operator set --public-url.",
                code="insecure_connection",
            )

    def refuse_other_sites(self, scope: Scope) -> None:
        """Programs send neither of the two headers, browsers always one of them.

        Raises:
            PermissionDeniedError: a page of another site sent this.
        """
        site = header(scope, b"sec-fetch-site")
        origin = header(scope, b"origin")
        if site in ("", "same-origin", "none") and (not origin or self._is_own(origin, scope)):
            return
        raise PermissionDeniedError(
            "This was sent by a page of another site; open the dashboard itself. Behind a proxy "
            "that changes the host name, --public-url must say what browsers see.",
            code="cross_site_request",
        )

    def _is_own(self, origin: str, scope: Scope) -> bool:
        sent, _, netloc = origin.partition("://")
        claimed = (sent, *_split(netloc, sent))
        scheme = "https" if self.is_secure(scope) else "http"
        own = (scheme, *_split(header(scope, b"host"), scheme))
        return claimed[1] != "" and claimed in (own, self._public)

    def _trusts(self, peer: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._trusted)


def header(scope: Scope, name: bytes) -> str:
    """A request header, empty if it was not sent; several of one name are one list."""
    return ", ".join(v.decode("latin-1") for k, v in scope["headers"] if k == name)


def _peer(scope: Scope) -> str:
    client = scope["client"]
    return "" if client is None else client[0]


def _public(url: str) -> tuple[str, str, int]:
    if not url:
        return "", "", 0
    scheme, _, netloc = url.partition("://")
    host, port = _split(netloc.removesuffix("/"), scheme)
    if scheme not in _PORTS or not host:
        raise SettingsError("--public-url is not a URL; write https://HOST, without a path.")
    return scheme, host, port


def _split(netloc: str, scheme: str = "") -> tuple[str, int]:
    """Host in lower case, empty if this is no host, and port."""
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname or "", parts.port or _PORTS.get(scheme, 0)
    except ValueError:
        return "", 0
    return (host, port) if netloc == parts.netloc else ("", 0)
