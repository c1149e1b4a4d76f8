"""Who is what in a tenant, who may change it, and how people get in."""

import asyncio
from typing import NamedTuple

import pytest
from litestar.routes import HTTPRoute
from sqlalchemy import update

from loraplex.platform.app import create_app
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import OneTimeCode
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings
from support.browser import PASSWORD, Browser, first_operator, invited, member
from support.services import OPERATOR, Api, FakeEngines, bearer, sqlite_only

MEMBERS = "/api/v1/tenants/acme/members"
INVITATIONS = "/api/v1/tenants/acme/invitations"
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Team(NamedTuple):
    """Somebody of each role in acme."""

    owner: Browser
    admin: Browser
    viewer: Browser


@pytest.fixture
async def team(api: Api) -> Team:
    roles = ("owner", "admin", "viewer")
    return Team(*[await member(api, "acme", f"{role}@example.com", role) for role in roles])


async def path_of(browser: Browser) -> str:
    return f"{MEMBERS}/{(await browser.who()).json()['user']['id']}"


async def test_an_invitation_lets_one_in_once(api: Api, team: Team) -> None:
    body = {"email": "New@Example.com", "role": "member"}
    made = await team.admin.send("POST", INVITATIONS, body)
    assert made.status_code == 201
    listed = (await team.admin.send("GET", INVITATIONS)).json()["data"]
    assert [(one["email"], one["role"]) for one in listed] == [("new@example.com", "member")]
    code = made.json()["code"]
    assert code not in str(listed)
    accept = {"code": code, "password": PASSWORD, "name": "New"}
    browsers = [Browser(api), Browser(api)]
    answers = await asyncio.gather(
        *(one.send("POST", "/api/v1/invitations/accept", accept) for one in browsers)
    )
    assert sorted(answer.status_code for answer in answers) in ([201, 400], [201, 409])
    assert (await team.admin.send("GET", INVITATIONS)).json()["data"] == []
    members = (await team.admin.send("GET", MEMBERS)).json()["data"]
    assert [(m["email"], m["role"]) for m in members] == [
        ("admin@example.com", "admin"),
        ("new@example.com", "member"),
        ("owner@example.com", "owner"),
        ("viewer@example.com", "viewer"),
    ]


async def test_who_has_an_account_accepts_with_its_password_or_signed_in(api: Api) -> None:
    ann = await member(api, "acme", "ann@example.com", "member")
    code = await invited(api, "globex", "ann@example.com", "viewer")
    wrong = {"code": code, "password": "another long sentence"}
    answer = await Browser(api).send("POST", "/api/v1/invitations/accept", wrong)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")
    right = {"code": code, "password": PASSWORD}
    answer = await Browser(api).send("POST", "/api/v1/invitations/accept", right)
    assert [tenant["name"] for tenant in answer.json()["tenants"]] == ["acme", "globex"]
    code = await invited(api, "initech", "ann@example.com", "viewer")
    stranger = await member(api, "acme", "bob@example.com", "owner")
    answer = await stranger.send("POST", "/api/v1/invitations/accept", {"code": code})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    # A cookie alone is not the word of the user.
    forged = await ann.send(
        "POST", "/api/v1/invitations/accept", {"code": code}, headers={"x-csrf-token": ""}
    )
    assert (forged.status_code, forged.json()["param"]) == (400, "password")
    answer = await ann.send("POST", "/api/v1/invitations/accept", {"code": code})
    assert answer.status_code == 201, answer.text
    assert len(answer.json()["tenants"]) == 3
    # It can be seen at once with the cookie that came along.
    assert (await ann.send("GET", "/api/v1/adapters?tenant=initech")).status_code == 200


@sqlite_only
async def test_an_invitation_ends(api: Api, team: Team) -> None:
    first = await invited(api, "acme", "new@example.com", "member")
    second = await invited(api, "acme", "new@example.com", "member")
    listed = (await team.admin.send("GET", INVITATIONS)).json()["data"]
    assert len(listed) == 1
    path = f"{INVITATIONS}/{listed[0]['id']}"
    assert (await team.admin.send("DELETE", path)).status_code == 204
    assert (await team.admin.send("DELETE", path)).status_code == 404
    third = await invited(api, "acme", "new@example.com", "member")
    async with api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(OneTimeCode).values(expires_at=utc_now()))
    for code in (first, second, third, "", "x" * 40, "é"):
        body = {"code": code, "password": PASSWORD}
        answer = await Browser(api).send("POST", "/api/v1/invitations/accept", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code"), code


@sqlite_only
async def test_admins_cannot_touch_owners(team: Team) -> None:
    owner = await path_of(team.owner)
    viewer = await path_of(team.viewer)
    attempts = (
        ("PATCH", owner, {"role": "member"}),
        ("DELETE", owner, None),
        ("PATCH", viewer, {"role": "owner"}),
        ("POST", INVITATIONS, {"email": "new@example.com", "role": "owner"}),
    )
    for method, path, body in attempts:
        answer = await team.admin.send(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), path
    answer = await team.admin.send("PATCH", viewer, {"role": "admin"})
    assert (answer.status_code, answer.json()["role"]) == (200, "admin")
    # Another role: sign in anew.
    assert (await team.viewer.who()).status_code == 401
    assert (await team.owner.send("PATCH", viewer, {"role": "owner"})).status_code == 200


@sqlite_only
async def test_a_key_with_the_scope_admin_is_no_owner(api: Api, team: Team) -> None:
    key = bearer(await api.tenant("acme", "admin"))
    owner = await path_of(team.owner)
    answer = await api.client.patch(owner, json={"role": "member"}, headers=key)
    assert answer.status_code == 403
    viewer = await path_of(team.viewer)
    answer = await api.client.patch(viewer, json={"role": "member"}, headers=key)
    assert answer.status_code == 200


async def test_the_last_owner_stays(api: Api, team: Team) -> None:
    owner = await path_of(team.owner)
    operator = bearer(OPERATOR)
    for method, body in (("PATCH", {"role": "admin"}), ("DELETE", None)):
        for answer in (
            await team.owner.send(method, owner, body),
            await api.client.request(method, owner, json=body, headers=operator),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    second = await member(api, "acme", "second@example.com", "owner")
    paths = (owner, await path_of(second))
    # Each demotes the other at the same moment.
    answers = await asyncio.gather(
        second.send("PATCH", paths[0], {"role": "admin"}),
        team.owner.send("PATCH", paths[1], {"role": "admin"}),
    )
    assert sum(answer.status_code == 200 for answer in answers) == 1, [a.text for a in answers]
    members = (await api.client.get(MEMBERS, headers=operator)).json()["data"]
    assert [m["role"] for m in members].count("owner") == 1


async def test_who_is_removed_is_out(api: Api, team: Team) -> None:
    viewer = await path_of(team.viewer)
    assert (await team.viewer.send("GET", "/api/v1/adapters")).status_code == 200
    assert (await team.admin.send("DELETE", viewer)).status_code == 204
    assert (await team.viewer.who()).status_code == 401
    again = await team.viewer.sign_in("viewer@example.com")
    assert again.json()["tenants"] == []
    absent = await team.viewer.send("GET", "/api/v1/adapters?tenant=nobody")
    answer = await team.viewer.send("GET", "/api/v1/adapters?tenant=acme")
    assert answer.status_code == absent.status_code == 404
    assert answer.text.replace("acme", "nobody") == absent.text
    assert (await team.admin.send("GET", viewer)).status_code == 404


@sqlite_only
async def test_operators_add_who_has_an_account(api: Api, team: Team) -> None:
    await member(api, "globex", "bob@example.com", "owner")
    body = {"email": "bob@example.com", "role": "owner"}
    assert (await team.owner.send("POST", MEMBERS, body)).status_code == 403
    operator = await first_operator(api)
    assert (await operator.send("POST", MEMBERS, body)).status_code == 201
    assert (await operator.send("POST", MEMBERS, body)).status_code == 409
    body["email"] = "nobody@example.com"
    assert (await operator.send("POST", MEMBERS, body)).status_code == 404


@sqlite_only
async def test_a_tenant_is_named_where_there_are_several(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    code = await invited(api, "globex", "ann@example.com", "viewer")
    ann = Browser(api)
    accept = {"code": code, "password": PASSWORD}
    assert (await ann.send("POST", "/api/v1/invitations/accept", accept)).status_code == 201
    answer = await ann.send("GET", "/api/v1/adapters")
    assert (answer.status_code, answer.json()["param"]) == (400, "tenant")
    for tenant, status in (("acme", 404), ("globex", 403)):
        answer = await ann.send("DELETE", f"/api/v1/adapters/none?tenant={tenant}")
        assert answer.status_code == status, answer.text
    await api.tenant("initech")
    for path in ("/api/v1/adapters?tenant={}", "/api/v1/tenants/{}/members"):
        foreign = await ann.send("GET", path.format("initech"))
        absent = await ann.send("GET", path.format("nothing"))
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text.replace("initech", "nothing") == absent.text


def _changes(settings: Settings) -> list[tuple[str, str]]:
    """Every request of the management API that could change something, with names where the path has parameters."""
    app = create_app(settings, FakeEngines(settings.models))
    found = []
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or not route.path.startswith("/api/v1/"):
            continue
        path = route.path_format
        for name, parameter in route.path_parameters.items():
            sample = "01a2030c-69b4-77bb-a6be-25afd1c9095b" if "id" in name else "1"
            sample = "acme" if name == "tenant" else sample
            sample = "usr_xxxxxxxx" if name == "user_id" else sample
            path = path.replace("{" + parameter.name + "}", sample)
        for handler in route.route_handlers:
            if not handler.opt.get("anonymous"):
                found += [(method, path) for method in handler.http_methods if method in CHANGING]
    return sorted(found)


@sqlite_only
async def test_a_viewer_changes_nothing(api: Api, team: Team, settings: Settings) -> None:
    own = ("/api/v1/session",)
    changes = [one for one in _changes(settings) if not one[1].startswith(own)]
    assert len(changes) >= 20
    for method, path in changes:
        answer = await team.viewer.send(method, path, {})
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["code"] == "permission_denied", (method, path)
    assert (await team.viewer.send("GET", "/api/v1/adapters")).status_code == 200
    assert (await team.viewer.send("GET", MEMBERS)).status_code == 403
