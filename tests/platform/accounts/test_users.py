"""Operators and users: over HTTP, with the command line, and at the first start."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from loraplex.platform.cli.main import main
from loraplex.platform.settings import PasswordHashing, Settings
from support.api_server import api_server
from support.browser import PASSWORD, Browser, first_operator, member
from support.services import OPERATOR, Api, bearer, sqlite_only


async def test_an_operator_makes_a_user_who_sets_a_password(api: Api) -> None:
    operator = await first_operator(api)
    body = {"email": "Ann@Example.com", "name": " Ann ", "is_operator": True}
    made = await operator.send("POST", "/api/v1/users", body)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert (made.json()["user"]["email"], made.json()["user"]["name"]) == ("ann@example.com", "Ann")
    again = await operator.send("POST", "/api/v1/users", body)
    assert (again.status_code, again.json()["param"]) == (409, "email")
    reset = {"code": made.json()["reset"]["code"], "password": "short"}
    browser = Browser(api)
    answer = await browser.send("POST", "/api/v1/password-reset", reset)
    assert (answer.status_code, answer.json()["code"]) == (400, "weak_password")
    reset["password"] = PASSWORD
    assert (await browser.send("POST", "/api/v1/password-reset", reset)).status_code == 204
    answer = await browser.send("POST", "/api/v1/password-reset", reset)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")
    assert (await browser.sign_in("ann@example.com")).status_code == 201
    assert (await browser.send("GET", "/api/v1/users?limit=1")).json()["next"] == "ann@example.com"
    page = (await browser.send("GET", "/api/v1/users?after=ann@example.com")).json()
    assert ([user["email"] for user in page["data"]], page["next"]) == (["root@example.com"], None)


async def test_a_code_for_a_new_password_ends_sessions_and_earlier_codes(api: Api) -> None:
    operator = await first_operator(api)
    ann = await member(api, "acme", "ann@example.com", "member")
    user = (await ann.who()).json()["user"]["id"]
    codes = [
        (await operator.send("POST", f"/api/v1/users/{user}/reset")).json()["code"]
        for _ in range(2)
    ]
    assert (await ann.who()).status_code == 200
    statuses = []
    for code in codes:
        body = {"code": code, "password": "another long sentence"}
        answer = await Browser(api).send("POST", "/api/v1/password-reset", body)
        statuses.append(answer.status_code)
    assert statuses == [400, 204]
    assert (await ann.who()).status_code == 401
    assert (await ann.sign_in("ann@example.com")).status_code == 401
    assert (await ann.sign_in("ann@example.com", "another long sentence")).status_code == 201


async def test_a_disabled_user_is_out_and_stays_out(api: Api) -> None:
    operator = await first_operator(api)
    ann = await member(api, "acme", "ann@example.com", "owner")
    path = f"/api/v1/users/{(await ann.who()).json()['user']['id']}"
    code = (await operator.send("POST", path + "/reset")).json()["code"]
    answer = await operator.send("PATCH", path, {"disabled": True})
    assert (answer.status_code, answer.json()["disabled"]) == (200, True)
    assert (await ann.who()).status_code == 401
    assert (await ann.sign_in("ann@example.com")).status_code == 401
    body = {"code": code, "password": PASSWORD}
    assert (await ann.send("POST", "/api/v1/password-reset", body)).status_code == 400
    assert (await operator.send("POST", path + "/reset")).status_code == 409
    assert (await operator.send("PATCH", path, {"disabled": False})).status_code == 200
    assert (await ann.sign_in("ann@example.com")).status_code == 201


@sqlite_only
async def test_operators_cannot_shut_themselves_out(api: Api) -> None:
    operator = await first_operator(api)
    own = f"/api/v1/users/{(await operator.who()).json()['user']['id']}"
    for body in ({"disabled": True}, {"is_operator": False}):
        assert (await operator.send("PATCH", own, body)).status_code == 409
    assert (await operator.send("PATCH", own, {"name": "Root"})).json()["name"] == "Root"
    assert (await operator.who()).status_code == 200
    missing = await operator.send("PATCH", "/api/v1/users/usr_nobody00", {"name": "x"})
    assert missing.status_code == 404


@sqlite_only
async def test_only_operators_see_users(api: Api) -> None:
    owner = await member(api, "acme", "ann@example.com", "owner")
    key = bearer(await api.tenant("acme", "admin"))
    for method, path in (
        ("GET", "/api/v1/users"),
        ("POST", "/api/v1/users"),
        ("PATCH", "/api/v1/users/usr_nobody00"),
        ("POST", "/api/v1/users/usr_nobody00/reset"),
    ):
        assert (await owner.send(method, path, {})).status_code == 403, path
        answer = await api.client.request(method, path, json={}, headers=key)
        assert answer.status_code == 403, path


@sqlite_only
async def test_what_cannot_be_an_e_mail_address_or_a_name(api: Api) -> None:
    operator = await first_operator(api)
    wrong: tuple[tuple[str, object], ...] = (
        *(("email", text) for text in ("", "ann", "a@b@c", "a b@c", "a@b\n", "a@\0", "@b", "a@")),
        ("email", f"{'x' * 65}@example.com"),
        ("name", "a\0b"),
        ("name", "x" * 101),
        ("is_operator", "yes"),
    )
    for field, value in wrong:
        body = {"email": "new@example.com", field: value}
        answer = await operator.send("POST", "/api/v1/users", body)
        assert (answer.status_code, answer.json()["param"]) == (400, field), value
    for email in ("\0", "a" * 300, "a@b\n"):
        status = (await Browser(api).sign_in(email)).status_code
        assert status in (400, 401), email


def test_commands(tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        environment = {"LORAPLEX_URL": server.url, "LORAPLEX_API_KEY": OPERATOR}
        done = CliRunner().invoke(main, ["user", *words], env=environment)
        assert done.exit_code == code, done.output
        return done.output

    hashing = PasswordHashing(memory_kib=64, time_cost=1)
    with api_server(Settings(data_dir=tmp_path, password_hashing=hashing)) as server:
        made = run("create", "ann@example.com", "--name", "Ann", "--operator")
        assert re.search(r"^[0-9a-f]{40}$", made, re.MULTILINE)
        listed = run("list")
        assert re.search(r"usr_\w{8}\s+ann@example.com\s+Ann\s+yes\s+-\s+-", listed)
        assert "Disabled" in run("disable", "Ann@example.com")
        assert '"disabled": true' in run("list", "--json")
        assert "enable the account first" in run("reset", "ann@example.com", code=1)
        assert "Enabled" in run("enable", "ann@example.com")
        assert re.search(r"^[0-9a-f]{40}$", run("reset", "ann@example.com"), re.MULTILINE)
        assert '"code": "' in run("reset", "ann@example.com", "--json")
        assert "There is no user" in run("disable", "bob@example.com", code=1)


@pytest.mark.parametrize("bootstrap_key", [None, OPERATOR])
def test_a_start_prints_a_set_up_code(tmp_path: Path, bootstrap_key: str | None) -> None:
    settings = replace(Settings(data_dir=tmp_path), bootstrap_key=bootstrap_key)
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "loraplex.platform.prepare"],
            input=settings.to_json().encode(),
            capture_output=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        told.append(re.findall(r"set-up code ([0-9a-f]{40})$", done.stdout.decode(), re.MULTILINE))
        assert ("operator's key" in done.stdout.decode()) is (
            bootstrap_key is None and not told[1:]
        )
    assert [len(codes) for codes in told] == [1, 1]
    assert told[0] != told[1]
