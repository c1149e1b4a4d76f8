"""What is believed of the way a request came: nothing a client could have made up."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from litestar.types import HTTPScope

from loraplex.platform.accounts.edge import Edge
from loraplex.platform.errors import PermissionDeniedError
from loraplex.platform.settings import Settings, SettingsError
from support.browser import Browser, another_worker, first_operator
from support.services import Api, sqlite_only

PLAIN = Settings(data_dir=Path("unused"))
PROXIED = replace(PLAIN, trusted_proxies=("10.0.0.0/8", "2001:db8::1"))


def scope(peer: str, *, scheme: str = "http", **headers: str) -> HTTPScope:
    """A request as the server hands it on; underscores in names are dashes."""
    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {  # type: ignore[typeddict-item]  # what is read of it
        "type": "http",
        "client": (peer, 1234) if peer else None,
        "scheme": scheme,
        "headers": raw,
    }


@pytest.mark.parametrize(
    ("settings", "peer", "forwarded", "address"),
    [
        (PLAIN, "192.0.2.1", "198.51.100.1", "192.0.2.1"),
        (PLAIN, "10.0.0.1", "198.51.100.1", "10.0.0.1"),
        (PLAIN, "", "198.51.100.1", ""),
        (PROXIED, "192.0.2.1", "198.51.100.1", "192.0.2.1"),
        (PROXIED, "10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIED, "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIED, "2001:db8::1", "2001:db8::77", "2001:db8::77"),
        # The client's own word stands to the left of what our proxies added.
        (PROXIED, "10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (PROXIED, "10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
        (PROXIED, "10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_addresses(settings: Settings, peer: str, forwarded: str, address: str) -> None:
    assert Edge(settings).address(scope(peer, x_forwarded_for=forwarded)) == address


@pytest.mark.parametrize(
    ("settings", "peer", "proto", "secure"),
    [
        (PLAIN, "127.0.0.1", "https", False),
        (PROXIED, "192.0.2.1", "https", False),
        (PROXIED, "10.0.0.1", "https", True),
        (PROXIED, "10.0.0.1", "https, http", False),
        (replace(PLAIN, cookie_secure=True), "127.0.0.1", "", True),
        (replace(PLAIN, public_url="https://a.example"), "127.0.0.1", "", True),
        (replace(PLAIN, public_url="http://a.example"), "127.0.0.1", "", False),
    ],
)
def test_https(settings: Settings, peer: str, proto: str, secure: bool) -> None:
    assert Edge(settings).is_secure(scope(peer, x_forwarded_proto=proto)) is secure
    assert Edge(settings).is_secure(scope(peer, scheme="https")) is True


@pytest.mark.parametrize(
    ("settings", "host", "fine"),
    [
        (PLAIN, "localhost:8000", True),
        (PLAIN, "[::1]:8000", True),
        (PLAIN, "gpu.example", False),
        (PLAIN, "localhost.example", False),
        (PLAIN, "", False),
        (replace(PLAIN, public_url="http://gpu.example"), "gpu.example", True),
        (replace(PLAIN, public_url="https://gpu.example"), "gpu.example", True),
    ],
)
def test_passwords_do_not_travel_in_clear(settings: Settings, host: str, fine: bool) -> None:
    edge, request = Edge(settings), scope("192.0.2.1", host=host)
    if fine:
        edge.require_private(request)
        return
    with pytest.raises(PermissionDeniedError, match="https") as refused:
        edge.require_private(request)
    assert refused.value.code == "insecure_connection"


def test_a_proxy_may_change_the_host_if_the_public_name_is_known() -> None:
    request = scope("10.0.0.1", host="upstream:8000", origin="https://a.example")
    Edge(replace(PLAIN, public_url="https://a.example")).refuse_other_sites(request)
    for settings in (PLAIN, replace(PLAIN, public_url="https://b.example")):
        with pytest.raises(PermissionDeniedError):
            Edge(settings).refuse_other_sites(request)


@pytest.mark.parametrize(
    "wrong",
    [{"public_url": "a.example"}, {"public_url": "https://a/b"}, {"trusted_proxies": ("nginx",)}],
)
def test_settings_that_cannot_be_meant(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"--public-url|--trusted-proxies"):
        Edge(replace(PLAIN, **wrong))  # type: ignore[arg-type]  # each has its own type


@pytest.fixture
async def secured(api: Api, settings: Settings) -> AsyncGenerator[Api]:
    """The same service behind a proxy that ends TLS."""
    public = replace(settings, public_url="https://lora.example")
    async with another_worker(api, public) as other:
        yield other


@sqlite_only
async def test_over_https_the_cookie_belongs_to_this_host_alone(api: Api, secured: Api) -> None:
    await first_operator(api)
    browser = Browser(secured, "https://lora.example")
    answer = await browser.sign_in("root@example.com")
    assert answer.status_code == 201, answer.text
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-loraplex=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert (await browser.who()).status_code == 200
    # The name that any page of a neighbouring host could set means nothing here.
    browser.cookies = {"loraplex": browser.cookies["__Host-loraplex"]}
    assert (await browser.who()).json()["code"] == "missing_api_key"
