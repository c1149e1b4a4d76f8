"""The first operator: one code, used once, and afterwards there is nothing to open."""

import asyncio

from sqlalchemy import func, select, update

from loraplex.platform.accounts.setup import ensure_setup_code
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import OneTimeCode, User
from loraplex.platform.db.scope import EVERY_TENANT
from support.browser import PASSWORD, Browser, first_operator, member
from support.services import Api, sqlite_only


async def _set_up(api: Api, code: str | None, email: str = "root@example.com") -> int:
    body = {"code": code, "email": email, "password": PASSWORD, "name": "Root"}
    return (await Browser(api).send("POST", "/api/v1/setup", body)).status_code


async def _is_open(api: Api) -> bool:
    return bool((await Browser(api).send("GET", "/api/v1/setup")).json()["open"])


async def test_the_first_operator_is_made_once(api: Api) -> None:
    assert not await _is_open(api)
    code = await ensure_setup_code(api.database)
    assert await _is_open(api)
    browser = Browser(api)
    body = {"code": code, "email": "Root@Example.com", "password": PASSWORD, "name": "Root"}
    answer = await browser.send("POST", "/api/v1/setup", body)
    assert answer.status_code == 201, answer.text
    user = answer.json()["user"]
    assert (user["email"], user["name"], user["is_operator"]) == ("root@example.com", "Root", True)
    assert (await browser.send("GET", "/api/v1/tenants")).status_code == 200
    assert not await _is_open(api)
    again = await Browser(api).send("POST", "/api/v1/setup", body)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_code")
    assert await ensure_setup_code(api.database) is None


async def test_two_set_ups_with_one_code_make_one_operator(api: Api) -> None:
    code = await ensure_setup_code(api.database)
    statuses = await asyncio.gather(
        *(_set_up(api, code, f"{number}@example.com") for number in range(5))
    )
    assert sorted(statuses) == [201, 400, 400, 400, 400]
    async with api.database.main.reading(EVERY_TENANT) as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1


@sqlite_only
async def test_each_start_has_a_new_code(api: Api) -> None:
    old = await ensure_setup_code(api.database)
    new = await ensure_setup_code(api.database)
    assert await _set_up(api, old) == 400
    assert await _set_up(api, new) == 201


@sqlite_only
async def test_a_code_ends_after_a_day(api: Api) -> None:
    code = await ensure_setup_code(api.database)
    async with api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(OneTimeCode).values(expires_at=utc_now()))
    assert not await _is_open(api)
    assert await _set_up(api, code) == 400


async def test_what_is_refused_leaves_the_code_as_it_was(api: Api) -> None:
    await member(api, "acme", "ann@example.com", "member")
    code = await ensure_setup_code(api.database)
    assert await _set_up(api, code, "ann@example.com") == 409
    body = {"code": code, "email": "root@example.com", "password": "1234567890"}
    answer = await Browser(api).send("POST", "/api/v1/setup", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "weak_password")
    assert await _set_up(api, code) == 201


@sqlite_only
async def test_without_an_operator_there_is_a_way_back(api: Api) -> None:
    browser = await first_operator(api)
    user = (await browser.who()).json()["user"]["id"]
    async with api.database.main.writing(EVERY_TENANT) as session:
        (await session.get_one(User, user)).disabled_at = utc_now()
    code = await ensure_setup_code(api.database)
    assert code is not None
    assert await _set_up(api, code, "next@example.com") == 201


@sqlite_only
async def test_codes_of_other_purposes_open_nothing(api: Api) -> None:
    operator = await first_operator(api)
    made = (await operator.send("POST", "/api/v1/users", {"email": "a@b"})).json()
    code = made["reset"]["code"]
    assert await _set_up(api, code) == 400
    body = {"code": code, "password": PASSWORD}
    answer = await Browser(api).send("POST", "/api/v1/invitations/accept", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")
