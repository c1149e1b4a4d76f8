"""Ways back in, and into accounts of others, that are none."""

import pytest

from loraplex.platform.accounts.throttle import network
from loraplex.platform.settings import Settings
from support.browser import PASSWORD, Browser, another_worker, first_operator, member
from support.services import OPERATOR, Api, bearer, sqlite_only

MEMBERS = "/api/v1/tenants/acme/members"
INVITATIONS = "/api/v1/tenants/acme/invitations"
ACCEPT = "/api/v1/invitations/accept"


async def id_of(browser: Browser) -> str:
    return str((await browser.who()).json()["user"]["id"])


async def invite(browser: Browser, email: str, role: str) -> dict[str, str]:
    """What accepts the invitation."""
    made = await browser.send("POST", INVITATIONS, {"email": email, "role": role})
    assert made.status_code == 201, made.text
    return {"code": made.json()["code"], "password": PASSWORD}


@pytest.mark.parametrize("how", ["removed", "demoted", "disabled"])
async def test_invitations_end_with_the_right_to_make_them(api: Api, how: str) -> None:
    operator = await first_operator(api)
    owner = await member(api, "acme", "owner@example.com", "owner")
    mallory = await member(api, "acme", "mallory@example.com", "owner")
    others = await invite(owner, "friend@example.com", "member")
    body = await invite(mallory, "accomplice@example.com", "owner")
    path = f"{MEMBERS}/{await id_of(mallory)}"
    if how == "removed":
        answer = await owner.send("DELETE", path)
    elif how == "demoted":
        answer = await owner.send("PATCH", path, {"role": "viewer"})
    else:
        users = f"/api/v1/users/{await id_of(mallory)}"
        answer = await operator.send("PATCH", users, {"disabled": True})
    assert answer.is_success, answer.text
    answer = await Browser(api).send("POST", ACCEPT, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")
    assert (await Browser(api).send("POST", ACCEPT, others)).status_code == 201


async def test_who_is_removed_keeps_no_invitation(api: Api) -> None:
    owner = await member(api, "acme", "owner@example.com", "owner")
    ann = await member(api, "globex", "ann@example.com", "owner")
    body = await invite(owner, "ann@example.com", "admin")
    operator = bearer(OPERATOR)
    added = {"email": "ann@example.com", "role": "viewer"}
    assert (await api.client.post(MEMBERS, json=added, headers=operator)).status_code == 201
    assert (await owner.send("DELETE", f"{MEMBERS}/{await id_of(ann)}")).status_code == 204
    answer = await Browser(api).send("POST", ACCEPT, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")


@sqlite_only
async def test_headers_that_are_no_addresses(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    for origin in ("http://[", "http://[::1", "http://a:b:c", "null", "http://localhost:99999"):
        browser = Browser(api)
        browser.headers["origin"] = origin
        answer = await browser.sign_in("ann@example.com")
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), origin
    for host in ("[", "[::1", "a:b", "localhost:99999"):
        browser = Browser(api)
        body = {"email": "ann@example.com", "password": PASSWORD}
        answer = await browser.send("POST", "/api/v1/session", body, headers={"host": host})
        assert answer.status_code in (400, 403), (host, answer.text)


async def test_an_address_is_no_longer_in_lower_case(api: Api) -> None:
    email = f"{60 * 'İ'}@{180 * 'İ'}.example"
    await api.tenant("acme")
    operator = bearer(OPERATOR)
    for path, body in (("/api/v1/users", {}), (INVITATIONS, {"role": "member"})):
        answer = await api.client.post(path, json={"email": email, **body}, headers=operator)
        assert (answer.status_code, answer.json()["param"]) == (400, "email"), path


def test_addresses_of_ipv4_in_ipv6_are_not_one_network() -> None:
    assert network("::ffff:192.0.2.1").key == network("192.0.2.1").key
    assert network("::ffff:192.0.2.1").key != network("::ffff:192.0.2.2").key


async def test_what_is_still_known_of_a_deleted_tenant(api: Api, settings: Settings) -> None:
    ann = await member(api, "acme", "ann@example.com", "owner")
    key = bearer(await api.tenant("acme", "admin"))
    hook = {"url": "https://example.com/x", "events": ["key.created"]}
    assert (await api.client.get("/api/v1/webhooks", headers=key)).status_code == 200
    assert (await ann.send("GET", "/api/v1/webhooks")).status_code == 200
    async with another_worker(api, settings) as other:
        path = "/api/v1/tenants/acme?confirm=acme"
        assert (await other.client.delete(path, headers=bearer(OPERATOR))).status_code == 204
    for answer in (
        await ann.send("POST", "/api/v1/webhooks", hook),
        await api.client.post("/api/v1/webhooks", json=hook, headers=key),
    ):
        # Here both may still be known, for seconds.
        assert answer.status_code in (400, 401, 404), answer.text


async def test_members_of_a_deleted_tenant_are_out_at_once(api: Api) -> None:
    ann = await member(api, "acme", "ann@example.com", "owner")
    assert (await ann.send("GET", "/api/v1/adapters?tenant=acme")).status_code == 200
    path = "/api/v1/tenants/acme?confirm=acme"
    assert (await api.client.delete(path, headers=bearer(OPERATOR))).status_code == 204
    assert (await ann.who()).json()["tenants"] == []
    assert (await ann.send("GET", "/api/v1/adapters?tenant=acme")).status_code == 404
