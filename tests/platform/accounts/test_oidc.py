"""Signing in by way of a real OpenID Connect provider: who gets in, and which lies are not believed."""

import time
from collections.abc import Generator
from dataclasses import replace

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import select

from loraplex.platform.accounts.oidc import Journey
from loraplex.platform.accounts.oidc_provider import RETRY_SECONDS, OidcProvider
from loraplex.platform.db.models import User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ProviderUnavailableError
from loraplex.platform.settings import Settings, SettingsError
from support.browser import PASSWORD, Browser, invited, member
from support.oidc import CLIENT, SECRET, OidcServer, oidc_server
from support.services import Api, sqlite_only

START = "/api/v1/session/oidc"


@pytest.fixture(scope="module")
def running() -> Generator[OidcServer]:
    with oidc_server() as server:
        yield server


@pytest.fixture
def provider(running: OidcServer) -> Generator[OidcServer]:
    honest = (running.signer, running.algorithm, running.keys)
    yield running
    running.claims = {}
    running.signer, running.algorithm, running.keys = honest


@pytest.fixture
def settings(settings: Settings, provider: OidcServer) -> Settings:
    return replace(
        settings,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_allowed_domains=("example.com",),
    )


async def go(browser: Browser, provider: OidcServer, query: str = "") -> httpx.Response:
    """There and back."""
    there = await browser.send("GET", START + query)
    assert there.status_code == 303, there.text
    back = provider.authorize(there.headers["location"])
    return await browser.send("GET", f"{START}/callback?{httpx.QueryParams(back)}")


async def test_people_of_a_trusted_domain_come_in(api: Api, provider: OidcServer) -> None:
    browser = Browser(api)
    answer = await go(browser, provider, "?next=/adapters%3Fa=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/adapters?a=1")
    # The way there and back is forgotten.
    assert list(browser.cookies) == ["loraplex"]
    first = (await browser.who()).json()["user"]
    assert (first["email"], first["name"]) == ("ann@example.com", "Ann")
    # The same person, whatever the address is now.
    provider.claims = {"email": "married@elsewhere.org"}
    again = Browser(api)
    assert (await go(again, provider)).status_code == 303
    assert (await again.who()).json()["user"] == first
    # There is no password to try.
    assert (await Browser(api).sign_in("ann@example.com", PASSWORD)).status_code == 401


async def test_others_need_an_invitation_for_their_address(api: Api, provider: OidcServer) -> None:
    provider.claims = {"email": "bob@elsewhere.org", "sub": "bob"}
    answer = await go(Browser(api), provider)
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused")
    foreign = await invited(api, "acme", "eve@elsewhere.org", "owner")
    answer = await go(Browser(api), provider, f"?invitation={foreign}")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    async with api.database.main.reading(EVERY_TENANT) as session:
        assert (await session.scalars(select(User))).all() == []
    code = await invited(api, "acme", "bob@elsewhere.org", "member")
    browser = Browser(api)
    assert (await go(browser, provider, f"?invitation={code}")).status_code == 303
    assert [tenant["role"] for tenant in (await browser.who()).json()["tenants"]] == ["member"]
    assert (await go(Browser(api), provider)).status_code == 303
    used = await go(Browser(api), provider, f"?invitation={code}")
    assert (used.status_code, used.json()["code"]) == (400, "invalid_code")


@sqlite_only
async def test_an_account_with_the_address_is_taken_over_once(
    api: Api, provider: OidcServer
) -> None:
    ann = await member(api, "acme", "ann@example.com", "member")
    known = (await ann.who()).json()["user"]
    browser = Browser(api)
    assert (await go(browser, provider)).status_code == 303
    assert (await browser.who()).json()["user"] == known
    # Somebody else who is given the address later is not Ann.
    provider.claims = {"sub": "another"}
    answer = await go(Browser(api), provider)
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused")


@sqlite_only
async def test_tokens_that_do_not_hold(api: Api, provider: OidcServer) -> None:
    now = time.time()
    lies: tuple[dict[str, object], ...] = (
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": now - 3600},
        {"exp": None},
        {"iat": now + 3600},
        {"nbf": now + 3600},
        {"sub": None},
        {"sub": ""},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": 1},
        {"email": None},
    )
    for claims in lies:
        provider.claims = claims
        answer = await go(Browser(api), provider)
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused"), claims
    provider.claims = {}
    # Whoever knows the client's secret, and somebody with a key of the same name.
    for algorithm, signer in (
        ("HS256", OctKey.import_key(SECRET, {"kid": "one"})),
        ("RS256", RSAKey.generate_key(2048, {"kid": "one"})),
    ):
        provider.algorithm, provider.signer = algorithm, signer
        answer = await go(Browser(api), provider)
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused"), algorithm


@sqlite_only
async def test_the_way_back_belongs_to_the_browser_that_began(
    api: Api, provider: OidcServer
) -> None:
    victim, attacker = Browser(api), Browser(api)
    there = await attacker.send("GET", START)
    back = httpx.QueryParams(provider.authorize(there.headers["location"]))
    await victim.send("GET", START)
    stranger = Browser(api)
    stranger.cookies = {"loraplex-oidc": "bm9uc2Vuc2U"}
    for browser in (victim, Browser(api), stranger):
        answer = await browser.send("GET", f"{START}/callback?{back}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_state")
    # A code that is not the provider's.
    state = back["state"]
    for query in (f"code=x&state={state}", f"error=access_denied&state={state}", f"state={state}"):
        answer = await attacker.send("GET", f"{START}/callback?{query}")
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused"), query


@sqlite_only
async def test_only_pages_of_this_host_follow(api: Api) -> None:
    for page in ("//evil.example", "/\\evil.example", "https://evil.example", "/%09/evil", ""):
        answer = await Browser(api).send("GET", f"{START}?next={page}")
        assert (answer.status_code, answer.json()["param"]) == (400, "next"), page


async def test_new_keys_are_asked_for(provider: OidcServer) -> None:
    now = time.time()
    client = OidcProvider(provider.issuer, CLIENT, SECRET, lambda: now)
    journey = Journey("s" * 20, "n" * 20, "v" * 64, "http://localhost/back", "/")

    async def sign_in() -> str:
        back = provider.authorize(await client.address(journey))
        return (await client.identify(journey, back["code"])).email

    assert await sign_in() == "ann@example.com"
    asked = provider.asked
    assert await sign_in() == "ann@example.com"
    assert provider.asked == asked
    provider.rotate()
    now += RETRY_SECONDS + 1
    assert await sign_in() == "ann@example.com"
    assert provider.asked == asked + 1


async def test_a_provider_that_is_away() -> None:
    with oidc_server() as gone:
        issuer = gone.issuer
    journey = Journey("s" * 20, "n" * 20, "v" * 64, "http://localhost/back", "/")
    with pytest.raises(ProviderUnavailableError):
        await OidcProvider(issuer, CLIENT, SECRET).address(journey)
    for wrong in ("http://provider.example", "ftp://127.0.0.1", "provider.example"):
        with pytest.raises(SettingsError, match="--oidc-issuer"):
            OidcProvider(wrong, CLIENT, SECRET)


async def test_a_description_of_another_issuer_is_not_believed(provider: OidcServer) -> None:
    journey = Journey("s" * 20, "n" * 20, "v" * 64, "http://localhost/back", "/")
    issuer = provider.issuer.replace("127.0.0.1", "localhost")
    with pytest.raises(ProviderUnavailableError):
        await OidcProvider(issuer, CLIENT, SECRET).address(journey)


async def test_who_chose_a_password_before_is_out_then(api: Api, provider: OidcServer) -> None:
    # An invitation proves nothing about the address: its maker has the code.
    squatter = await member(api, "squat", "ann@example.com", "viewer")
    ann = Browser(api)
    assert (await go(ann, provider)).status_code == 303
    assert (await squatter.who()).status_code == 401
    answer = await Browser(api).sign_in("ann@example.com", PASSWORD)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")


@sqlite_only
async def test_an_invitation_opens_no_account_of_a_domain_that_is_not_trusted(
    api: Api, provider: OidcServer
) -> None:
    bob = await member(api, "acme", "bob@elsewhere.org", "owner")
    provider.claims = {"email": "bob@elsewhere.org", "sub": "bob"}
    code = await invited(api, "globex", "bob@elsewhere.org", "viewer")
    answer = await go(Browser(api), provider, f"?invitation={code}")
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused")
    assert (await bob.send("POST", "/api/v1/invitations/accept", {"code": code})).status_code == 201


async def test_addresses_that_are_none_are_refused(api: Api, provider: OidcServer) -> None:
    for email in (f"{'a' * 300}@example.com", "a\0b@example.com", "example.com", ""):
        provider.claims = {"email": email}
        answer = await go(Browser(api), provider)
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused"), email
