"""What tenants name leads to the public internet or nowhere: every form of every other address is refused, at the
moment of connecting, and TLS still verifies the name."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraplex.platform.outbound import Outbound, RefusedTargetError
from loraplex.platform.public_addresses import is_public
from support.receiver import receiver, status, tls_contexts

PRIVATE_4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
PRIVATE_6 = (
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450::1")


def addresses(networks: Sequence[str]) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    """Any address of any of the networks."""
    return st.sampled_from(networks).flatmap(lambda n: st.ip_addresses(network=ip_network(n)))


@given(addresses(PRIVATE_4))
def test_no_form_of_a_private_ipv4_address_is_public(address: IPv4Address) -> None:
    number = int(address)
    for form in (
        str(address),
        str(IPv6Address((0xFFFF << 32) | number)),  # mapped
        f"::ffff:{address}",
        str(IPv6Address(number)),  # compatible
        str(IPv6Address((0x64FF9B << 96) | number)),  # through a gateway
        str(IPv6Address((0x2002 << 112) | (number << 80))),  # 6to4
        str(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),  # Teredo
    ):
        assert not is_public(form), form


@given(addresses(PRIVATE_6))
def test_no_private_ipv6_address_is_public(address: IPv6Address) -> None:
    assert not is_public(str(address))
    assert not is_public(address.exploded)


@given(st.ip_addresses(v=6))
def test_public_ipv6_addresses_are_global_unicast_or_carry_a_public_ipv4_one(
    address: IPv6Address,
) -> None:
    if is_public(str(address)):
        carried = address.ipv4_mapped or int(address) >> 32 == 0x64FF9B << 64
        assert address in ip_network("2000::/3") or carried


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(text)
    if "." in text:
        assert is_public(f"::ffff:{text}")
        assert is_public(str(IPv6Address((0x64FF9B << 96) | int(IPv4Address(text)))))


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f.1", "127.1", "8.8.8.8/8"])
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://:secret@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:80/",
        "https://example.com:99999/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/",
        "https://0.0.0.0/",
        "https://exa\x00mple.com/",
        "https://exa mple.com/",
        f"https://{'a' * 64}.com/",
    ],
)
def test_urls_that_are_refused_at_once(url: str) -> None:
    with pytest.raises(RefusedTargetError) as caught:
        Outbound().check(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a?b=c",
        "https://example.com:1024/",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8080/",
        "https://internal.example:22/",
    ],
)
def test_urls_that_may_be_asked(url: str) -> None:
    assert Outbound(allow_hosts=["Internal.example"]).check(url) == httpx.URL(url)


async def test_plain_http_is_the_operators_choice() -> None:
    assert Outbound(allow_http=True).check("http://example.com:80/").port is None
    with pytest.raises(RefusedTargetError, match="https://"):
        Outbound(allow_hosts=["example.com"]).check("http://example.com/")


class Resolver:
    """Names as a test likes them; the last answer stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["10.0.0.7", "1.1.1.1"], ["1.1.1.1", "::ffff:169.254.169.254"]]
)
async def test_a_name_with_a_private_address_is_not_asked(answer: list[str]) -> None:
    async with receiver() as got:
        outbound = Outbound(allow_http=True, resolve=Resolver(answer))
        async with outbound.client(10) as client:
            with pytest.raises(RefusedTargetError, match="public internet") as caught:
                await client.get(f"http://hooks.example:{got.port}/")
        assert not any(address in str(caught.value) for address in answer)
        assert got.received == []


@pytest.mark.parametrize("text", ["2130706433", "0x7f.1", "127.1", "localhost"])
async def test_the_systems_resolver_does_not_get_round_the_check(text: str) -> None:
    async with receiver() as got:
        async with Outbound(allow_http=True).client(10) as client:
            with pytest.raises((RefusedTargetError, httpx.ConnectError)):
                await client.get(f"http://{text}:{got.port}/")
        assert got.received == []


async def test_a_name_that_changes_is_checked_each_time() -> None:
    # Public when the URL is looked at, private when it is asked: as a rebinding name server answers.
    names = Resolver(["8.8.8.8"], ["127.0.0.1"])
    outbound = Outbound(allow_http=True, resolve=names)
    async with receiver() as got:
        url = outbound.check(f"http://hooks.example:{got.port}/")
        assert await outbound.addresses(url) == ["8.8.8.8"]
        async with outbound.client(10) as client:
            with pytest.raises(RefusedTargetError):
                await client.get(url)
        assert got.received == []


async def test_the_checked_address_is_the_one_connected_to_and_tls_verifies_the_name(
    tmp_path: Path,
) -> None:
    server, trusted = tls_contexts(tmp_path, ["hooks.example"])
    # No name server knows these names: whoever asked again would get nowhere.
    names = Resolver(["127.0.0.1"])
    hosts = ["hooks.example", "other.example"]
    outbound = Outbound(resolve=names, allow_hosts=hosts, ssl_context=trusted)
    async with receiver(server) as got, outbound.client(10) as client:
        answer = await client.post(f"https://hooks.example:{got.port}/x?y=z", content=b"hello")
        assert answer.status_code == 204
        assert names.asked == [("hooks.example", got.port)]
        (request,) = got.received
        assert (request.target, request.body) == ("/x?y=z", b"hello")
        assert request.headers["host"] == f"hooks.example:{got.port}"
        # The same address under a name that the certificate does not have, with the same client.
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await client.post(f"https://other.example:{got.port}/", content=b"hello")
        assert len(got.received) == 1


async def test_redirects_proxies_and_cookies_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    outbound = Outbound(allow_http=True, allow_hosts=["127.0.0.1"])
    async with receiver() as got, outbound.client(10) as client:
        got.answers = [status(302, f"location: http://127.0.0.1:{got.port}/secrets")]
        answer = await client.get(f"http://127.0.0.1:{got.port}/")
        assert answer.status_code == 302
        assert [request.target for request in got.received] == ["/"]


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    names = Resolver(["127.0.0.2", "127.0.0.1"])  # the receiver is at the second
    outbound = Outbound(allow_http=True, resolve=names, allow_hosts=["hooks.example"])
    async with receiver() as got, outbound.client(10) as client:
        answer = await client.post(f"http://hooks.example:{got.port}/", content=b"once")
        assert answer.status_code == 204
        assert [request.body for request in got.received] == [b"once"]
        names.answers = [["127.0.0.2"]]
        with pytest.raises(httpx.ConnectError):
            await client.post(f"http://hooks.example:{got.port}/", content=b"never")
        names.answers = [[]]
        with pytest.raises(httpx.ConnectError, match="no address"):
            await client.post(f"http://hooks.example:{got.port}/", content=b"never")
