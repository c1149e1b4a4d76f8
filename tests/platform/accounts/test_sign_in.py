"""Signing in over HTTP: what sets a cookie, what a cookie allows, and what ends it."""

import json
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from sqlalchemy import select

from loraplex.platform.auth.keys import hash_token
from loraplex.platform.db.models import AuditEntry, User, UserSession
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings
from support.browser import PASSWORD, Browser, another_worker, first_operator, member
from support.services import OPERATOR, Api, bearer, sqlite_only


@pytest.fixture
async def elsewhere(api: Api, settings: Settings) -> AsyncGenerator[Api]:
    """Another worker over the same database."""
    async with another_worker(api, settings) as other:
        yield other


async def test_signing_in_and_out(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    browser = Browser(api)
    answer = await browser.sign_in(" Ann@Example.com ")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("loraplex=")
    words = {"Path=/", "Max-Age=604800", "HttpOnly", "SameSite=lax"}
    assert set(cookie.split("; ")[1:]) == words
    who = (await browser.who()).json()
    assert who == answer.json()
    assert (who["user"]["email"], who["user"]["is_operator"]) == ("ann@example.com", False)
    scopes = ["adapters:read", "adapters:write", "inference", "usage"]
    assert who["tenants"] == [{"name": "acme", "role": "member", "scopes": scopes}]
    assert (await browser.send("GET", "/api/v1/adapters")).status_code == 200
    old = dict(browser.cookies)
    assert (await browser.send("DELETE", "/api/v1/session")).status_code == 204
    assert browser.cookies == {}
    browser.cookies = old
    answer = await browser.who()
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_session")


@sqlite_only
async def test_the_token_is_not_stored(api: Api) -> None:
    browser = await first_operator(api)
    async with api.database.main.reading(EVERY_TENANT) as session:
        row = (await session.scalars(select(UserSession))).one()
        user = (await session.scalars(select(User))).one()
    token = browser.cookies["loraplex"]
    assert row.token_sha256 == hash_token(token)
    assert token not in str(vars(row))
    assert (user.password_hash or "").startswith("$argon2id$")


@sqlite_only
async def test_a_session_id_chosen_by_the_client_is_never_used(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    chosen = "x" * 43
    for token in (chosen, "a=b", '"quoted"', "%00", ""):
        browser = Browser(api)
        browser.cookies = {"loraplex": token}
        assert (await browser.sign_in("ann@example.com")).status_code == 201
        assert browser.cookies["loraplex"] != token
    thief = Browser(api)
    thief.cookies = {"loraplex": chosen}
    assert (await thief.who()).status_code == 401


@sqlite_only
async def test_signing_in_again_ends_the_session_the_browser_had(api: Api) -> None:
    browser = await member(api, "acme", "ann@example.com", "member")
    assert (await browser.who()).status_code == 200
    old = Browser(api)
    old.cookies = dict(browser.cookies)
    await browser.sign_in("ann@example.com")
    assert (await old.who()).status_code == 401
    assert len((await browser.send("GET", "/api/v1/session/all")).json()["data"]) == 1


@sqlite_only
async def test_wrong_sign_ins_look_alike(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    operator = await first_operator(api)
    users = (await operator.send("GET", "/api/v1/users")).json()["data"]
    await member(api, "acme", "off@example.com", "member")
    users = (await operator.send("GET", "/api/v1/users")).json()["data"]
    off = next(user["id"] for user in users if user["email"] == "off@example.com")
    await operator.send("PATCH", f"/api/v1/users/{off}", {"disabled": True})
    made = {"email": "new@example.com"}
    assert (await operator.send("POST", "/api/v1/users", made)).status_code == 201
    answers = [
        await Browser(api).sign_in(email, password)
        for email, password in (
            ("ann@example.com", "wrong password"),
            ("nobody@example.com", PASSWORD),
            ("off@example.com", PASSWORD),
            ("new@example.com", PASSWORD),
            ("new@example.com", ""),
        )
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["code"] == "wrong_credentials"
    assert all("set-cookie" not in answer.headers for answer in answers)


@sqlite_only
async def test_a_request_has_one_credential(api: Api) -> None:
    browser = await first_operator(api)
    answer = await browser.send("GET", "/api/v1/tenants", headers=bearer(OPERATOR))
    assert (answer.status_code, answer.json()["code"]) == (400, "two_credentials")


@sqlite_only
async def test_the_data_plane_takes_no_cookie(api: Api) -> None:
    browser = await member(api, "acme", "ann@example.com", "owner")
    for path in ("/v1/models", "/t/acme/v1/models", "/metrics"):
        answer = await browser.send("GET", path)
        assert answer.status_code == 401, path
        body = answer.json()
        assert body.get("error", body)["code"] == "missing_api_key", path
    key = bearer(await api.tenant("acme"))
    assert (await browser.send("GET", "/v1/models", headers=key)).status_code == 200


@sqlite_only
async def test_changes_need_the_token_of_the_session(api: Api) -> None:
    browser = await first_operator(api)
    other = await member(api, "acme", "ann@example.com", "owner")
    for wrong in ("", "wrong", browser.csrf[:-1], other.csrf, browser.csrf + "x"):
        answer = await browser.send(
            "POST", "/api/v1/tenants", {"name": "new"}, headers={"x-csrf-token": wrong}
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_csrf_token"), wrong
    assert (await browser.send("POST", "/api/v1/tenants", {"name": "new"})).status_code == 201


@sqlite_only
async def test_other_sites_change_nothing(api: Api) -> None:
    browser = await first_operator(api)
    foreign: list[dict[str, str]] = [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:81"},
        {"origin": "https://localhost"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://localhost:x"},
        {"origin": "null"},
        {"sec-fetch-site": "", "origin": "http://evil.example"},
    ]
    before = await browser.send("GET", "/api/v1/tenants")
    stranger = Browser(api)
    for headers in foreign:
        attempts = [
            await browser.send("POST", "/api/v1/tenants", {"name": "new"}, headers=headers),
            await browser.send("DELETE", "/api/v1/session", headers=headers),
            # Nor do they sign anybody in to an account of theirs.
            await stranger.send(
                "POST",
                "/api/v1/session",
                {"email": "root@example.com", "password": PASSWORD},
                headers=headers,
            ),
            await stranger.send("POST", "/api/v1/setup", {}, headers=headers),
            await stranger.send("POST", "/api/v1/password-reset", {}, headers=headers),
            await stranger.send("POST", "/api/v1/invitations/accept", {}, headers=headers),
        ]
        for answer in attempts:
            code = answer.json()["code"]
            assert (answer.status_code, code) == (403, "cross_site_request"), headers
    assert (await browser.send("GET", "/api/v1/tenants")).json() == before.json()
    # Programs send none of these headers.
    program = {"sec-fetch-site": "", "origin": ""}
    answer = await browser.send("POST", "/api/v1/tenants", {"name": "new"}, headers=program)
    assert answer.status_code == 201


@sqlite_only
async def test_an_unauthenticated_body_is_not_read(api: Api) -> None:
    browser = await first_operator(api)
    huge = {"name": "x" * 5_000_000}
    refused = await browser.send("POST", "/api/v1/tenants", huge, headers={"x-csrf-token": "wrong"})
    assert refused.status_code == 403
    # And where anybody may send one it is small.
    answer = await Browser(api).sign_in("a@b", "x" * 20_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_sessions_are_listed_and_ended(api: Api) -> None:
    one = await member(api, "acme", "ann@example.com", "member")
    two, three = Browser(api, address="192.0.2.7"), Browser(api)
    foreign = await member(api, "acme", "bob@example.com", "member")
    for browser in (two, three):
        assert (await browser.sign_in("ann@example.com")).status_code == 201
    listed = (await two.send("GET", "/api/v1/session/all")).json()["data"]
    assert [session["current"] for session in listed].count(True) == 1
    own = next(session for session in listed if session["current"])
    assert (own["address"], own["user_agent"][:6]) == ("192.0.2.7", "python")
    assert len(listed) == 3
    answer = await foreign.send("DELETE", f"/api/v1/session/all/{own['id']}")
    assert answer.status_code == 404
    assert (await one.send("DELETE", f"/api/v1/session/all/{own['id']}")).status_code == 204
    assert (await two.who()).status_code == 401
    assert (await three.who()).status_code == 200
    assert (await one.send("DELETE", "/api/v1/session/all")).status_code == 204
    assert (await three.who()).status_code == 401
    assert (await foreign.who()).status_code == 200


async def test_another_password_ends_every_session(api: Api) -> None:
    browser = await member(api, "acme", "ann@example.com", "member")
    other = Browser(api)
    await other.sign_in("ann@example.com")
    body = {"current": "wrong", "password": "another long sentence"}
    answer = await browser.send("POST", "/api/v1/session/password", body)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")
    assert (await other.who()).status_code == 200
    body["current"] = PASSWORD
    old = dict(browser.cookies)
    assert (await browser.send("POST", "/api/v1/session/password", body)).status_code == 201
    assert (await other.who()).status_code == 401
    assert (await browser.who()).status_code == 200
    browser.cookies = old
    assert (await browser.who()).status_code == 401
    assert (await Browser(api).sign_in("ann@example.com")).status_code == 401
    assert (await Browser(api).sign_in("ann@example.com", body["password"])).status_code == 201


async def test_a_new_token_comes_with_any_answer(api: Api, elsewhere: Api) -> None:
    browser = await member(api, "acme", "ann@example.com", "member")
    async with api.database.main.writing(EVERY_TENANT) as session:
        row = (await session.scalars(select(UserSession))).one()
        row.rotated_at -= timedelta(hours=1)
        row.last_seen_at -= timedelta(hours=1)
    first = dict(browser.cookies)
    # Another worker, which remembers nothing of the session.
    browser.api = elsewhere
    forged = await browser.send("DELETE", "/api/v1/session", headers={"x-csrf-token": "x"})
    assert (forged.status_code, browser.cookies) == (403, first)
    absent = await browser.send("GET", "/api/v1/adapters/none")
    assert absent.status_code == 404
    assert browser.cookies != first
    assert "Max-Age=" in absent.headers["set-cookie"]
    assert (await browser.who()).status_code == 200


@sqlite_only
async def test_keys_have_no_session(api: Api) -> None:
    key = bearer(await api.tenant("acme"))
    for method, path in (("GET", "/api/v1/session"), ("DELETE", "/api/v1/session/all")):
        answer = await api.client.request(method, path, headers=key)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


async def test_what_people_do_is_audited_without_secrets(api: Api) -> None:
    browser = await first_operator(api)
    await Browser(api).sign_in("root@example.com", "wrong password")
    await Browser(api, address="192.0.2.1").sign_in("typed-into-the-wrong-field", "x")
    await browser.sign_in("root@example.com")
    await browser.send("DELETE", "/api/v1/session")
    async with api.database.main.reading(EVERY_TENANT) as session:
        rows = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    told = [(row.action, row.actor_name, row.address) for row in rows]
    assert told == [
        ("user.create", "", "127.0.0.1"),
        ("session.create", "root@example.com", "127.0.0.1"),
        ("session.refuse", "", "127.0.0.1"),
        ("session.refuse", "", "192.0.2.1"),
        ("session.create", "root@example.com", "127.0.0.1"),
        ("session.end", "root@example.com", "127.0.0.1"),
    ]
    everything = json.dumps([str(vars(row)) for row in rows])
    for secret in (PASSWORD, "wrong password", "typed-into", browser.csrf):
        assert secret not in everything
