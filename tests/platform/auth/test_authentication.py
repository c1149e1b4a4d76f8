"""Who gets in, where, and for how long."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from loraplex.platform.auth.authenticator import CACHE_SECONDS, Authenticator
from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.auth.keys import generate, key_id
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError
from loraplex.platform.settings import SettingsError
from support.services import OPERATOR, Api, bearer, sqlite_only

PROTECTED = [
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/t/acme/v1/models"),
    ("GET", "/api/v1/tenants"),
    ("GET", "/api/v1/adapters"),
    ("POST", "/api/v1/uploads"),
    ("GET", "/api/v1/engine"),
    ("GET", "/metrics"),
]


@sqlite_only
async def test_nothing_without_a_key(api: Api) -> None:
    for method, path in PROTECTED:
        answer = await api.client.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer", path
        body = answer.json()
        assert body.get("error", body)["code"] == "missing_api_key", path


@sqlite_only
async def test_wrong_keys(api: Api) -> None:
    for authorization in (
        f"Bearer {generate().token}",
        "Bearer not-a-key",
        f"Basic {OPERATOR}",
        OPERATOR,
        "Bearer",
        "Bearer " + OPERATOR[:-1] + "2",
        "Bearer \xff\xfe",
    ):
        headers = {b"authorization": authorization.encode("latin-1")}
        answer = await api.client.get("/v1/models", headers=headers)
        assert answer.status_code == 401, authorization
        assert answer.json()["error"]["type"] == "authentication_error"


@sqlite_only
async def test_keys_in_queries_and_cookies_are_ignored(api: Api) -> None:
    answer = await api.client.get(f"/api/v1/tenants?api_key={OPERATOR}&key={OPERATOR}")
    assert answer.status_code == 401
    cookie = {"cookie": f"session={OPERATOR}; authorization=Bearer {OPERATOR}"}
    assert (await api.client.get("/api/v1/tenants", headers=cookie)).status_code == 401


@sqlite_only
async def test_an_unauthenticated_body_is_not_read(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        raise AssertionError("the body was read")

    answer = await api.client.post("/api/v1/adapters", content=body())
    assert answer.status_code == 401


async def test_a_tenant_key_does_inference_and_adapters(api: Api) -> None:
    headers = bearer(await api.tenant("acme"))
    assert (await api.client.get("/v1/models", headers=headers)).status_code == 200
    assert (await api.client.get("/t/acme/v1/models", headers=headers)).status_code == 200
    assert (await api.client.get("/api/v1/adapters", headers=headers)).status_code == 200
    for path in ("/api/v1/tenants", "/metrics", "/api/v1/tenants/acme/keys"):
        answer = await api.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), path


@sqlite_only
@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("inference", "/v1/models"), ("adapters", "/api/v1/adapters"), ("admin", "keys")],
)
async def test_narrow_scopes(api: Api, scope: str, allowed: str) -> None:
    headers = bearer(await api.tenant("acme", scope))
    paths = {"/v1/models", "/api/v1/adapters", "/api/v1/tenants/acme/keys"}
    for path in paths:
        status = (await api.client.get(path, headers=headers)).status_code
        assert status == (200 if path.endswith(allowed) else 403), path


async def test_an_operator_manages_and_runs_nothing(api: Api) -> None:
    headers = bearer(OPERATOR)
    answer = await api.client.post("/v1/completions", headers=headers, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    await api.tenant("acme")
    assert (await api.client.get("/t/acme/v1/models", headers=headers)).status_code == 404


async def test_another_tenants_base_url_looks_absent(api: Api) -> None:
    await api.tenant("acme")
    headers = bearer(await api.tenant("globex"))
    foreign = await api.client.get("/t/acme/v1/models", headers=headers)
    absent = await api.client.get("/t/nobody/v1/models", headers=headers)
    assert foreign.status_code == absent.status_code == 404
    assert foreign.content == absent.content


async def test_a_revoked_key_ends_at_once_here(api: Api) -> None:
    key = await api.tenant("acme")
    assert (await api.client.get("/v1/models", headers=bearer(key))).status_code == 200
    path = f"/api/v1/tenants/acme/keys/{key.split('_')[2]}"
    assert (await api.client.delete(path, headers=bearer(OPERATOR))).status_code == 204
    assert (await api.client.get("/v1/models", headers=bearer(key))).status_code == 401
    shown = (await api.client.get(path, headers=bearer(OPERATOR))).json()
    assert shown["revoked_at"] is not None


async def test_other_processes_forget_a_key_within_five_seconds(
    api: Api, database: Database
) -> None:
    token = await api.tenant("acme")
    now = 0.0
    elsewhere = Authenticator(database, clock=lambda: now)
    principal = await elsewhere.authenticate(f"Bearer {token}")
    assert isinstance(principal.tenant_id, UUID)
    async with database.main.writing(EVERY_TENANT) as session:
        (await session.get_one(ApiKey, principal.actor_id)).revoked_at = utc_now()
    now = CACHE_SECONDS - 0.1
    await elsewhere.authenticate(f"Bearer {token}")  # still remembered
    now = CACHE_SECONDS
    with pytest.raises(AuthenticationError):
        await elsewhere.authenticate(f"Bearer {token}")
    assert CACHE_SECONDS <= 5


async def test_the_secret_is_not_stored(api: Api, database: Database) -> None:
    token = await api.tenant("acme")
    async with database.main.reading(EVERY_TENANT) as session:
        row = await session.get_one(ApiKey, token.split("_")[2])
    secret = token.split("_")[3]
    assert all(secret not in str(value) for value in vars(row).values())


async def test_the_first_start_makes_one_operator_key(database: Database) -> None:
    # The fixture's database has one already.
    assert await ensure_operator_key(database, None) is None
    async with database.main.writing(EVERY_TENANT) as session:
        await session.delete(await session.get_one(ApiKey, _operator_id()))
    token = await ensure_operator_key(database, None)
    assert token is not None
    principal = await Authenticator(database).authenticate(f"Bearer {token}")
    assert principal.is_operator
    assert await ensure_operator_key(database, None) is None


async def test_a_chosen_operator_key_is_added_and_not_shown(database: Database) -> None:
    assert await ensure_operator_key(database, "another-operator-key") is None
    for token in (OPERATOR, "another-operator-key"):
        assert (await Authenticator(database).authenticate(f"bearer {token}")).is_operator


async def test_a_revoked_operator_key_does_not_come_back(database: Database) -> None:
    async with database.main.writing(EVERY_TENANT) as session:
        (await session.get_one(ApiKey, _operator_id())).revoked_at = utc_now()
    await ensure_operator_key(database, OPERATOR)
    with pytest.raises(AuthenticationError):
        await Authenticator(database).authenticate(f"Bearer {OPERATOR}")


async def test_a_bootstrap_key_must_be_usable(database: Database) -> None:
    for key in ("short", "has spaces in it, alas", "lpx_live_mistyped_but_long_enough"):
        with pytest.raises(SettingsError, match="LORAPLEX_BOOTSTRAP_KEY"):
            await ensure_operator_key(database, key)


def _operator_id() -> str:
    return key_id(OPERATOR) or ""
