"""Every way a request can fail has the body its part of the API promises, and an id to quote."""

import re
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import text

from support.services import OPERATOR, Api, bearer, sqlite_only


@dataclass(frozen=True, slots=True)
class Case:
    """A request that fails, and how."""

    method: str
    path: str
    status: int
    code: str
    body: bytes = b""
    param: str | None = None
    content_type: str = "application/json"


MANAGEMENT = [
    Case("GET", "/api/v1/nothing", 404, "not_found"),
    Case("GET", "/nothing", 404, "not_found"),
    Case("DELETE", "/api/v1/tenants", 405, "method_not_allowed"),
    Case("POST", "/health", 405, "method_not_allowed"),
    Case("POST", "/api/v1/tenants", 400, "invalid_json", b"{"),
    Case("POST", "/api/v1/tenants", 400, "invalid_json", b""),
    Case("POST", "/api/v1/tenants", 400, "invalid_request", b"[]"),
    Case("POST", "/api/v1/tenants", 400, "invalid_value", b'{"name": 1}', "name"),
    Case("POST", "/api/v1/tenants", 400, "unknown_parameter", b'{"name": "a", "x": 1}', "x"),
    Case("POST", "/api/v1/tenants", 400, "invalid_json", b"\xff\xfe"),
    Case("POST", "/api/v1/tenants", 413, "payload_too_large", b" " * (4 * 1024**2 + 1)),
    Case("GET", "/api/v1/tenants?limit=0", 400, "invalid_request", param="limit"),
    Case("GET", "/api/v1/tenants?limit=x", 400, "invalid_request", param="limit"),
    Case("GET", "/api/v1/tenants/none/keys", 404, "not_found"),
    Case("GET", "/api/v1/adapters", 400, "invalid_request", param="tenant"),
    Case("GET", "/api/v1/adapters?tenant=none", 404, "not_found"),
    Case("GET", "/api/v1/uploads/not-a-uuid", 404, "not_found"),
]

OPENAI = [
    Case("GET", "/v1/nothing", 404, "not_found"),
    Case("GET", "/t/acme/v1/nothing", 404, "not_found"),
    Case("PUT", "/v1/models", 405, "method_not_allowed"),
    Case("GET", "/v1/models/none", 404, "model_not_found", param="model"),
    Case("POST", "/v1/completions", 413, "payload_too_large", b" " * (8 * 1024**2 + 1)),
]


@sqlite_only
async def test_management_errors_are_problem_documents(api: Api) -> None:
    for case in MANAGEMENT:
        answer = await _send(api, case, OPERATOR)
        assert answer.status_code == case.status, (case, answer.text)
        assert answer.headers["content-type"].startswith("application/problem+json"), case
        problem = answer.json()
        assert {"type", "title", "status", "detail", "code"} <= set(problem), case
        assert (problem["status"], problem["code"]) == (case.status, case.code), case
        assert problem.get("param") == case.param, case
        assert problem["detail"].endswith("."), case


@sqlite_only
async def test_openai_errors_have_all_four_keys(api: Api) -> None:
    key = await api.tenant("acme")
    for case in OPENAI:
        answer = await _send(api, case, key)
        assert answer.status_code == case.status, (case, answer.text)
        assert answer.headers["content-type"].startswith("application/json"), case
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, case
        assert (error["type"], error["code"]) == ("invalid_request_error", case.code), case
        assert error["param"] == case.param, case
        assert error["message"].endswith("."), case


@sqlite_only
async def test_a_wrong_method_names_the_right_ones(api: Api) -> None:
    answer = await api.client.delete("/api/v1/tenants", headers=bearer(OPERATOR))
    assert "POST" in answer.headers["allow"]


async def test_an_unexpected_error_says_nothing_and_is_logged(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await api.tenant("acme")
    rename = "ALTER TABLE adapter RENAME COLUMN {} TO {}"
    async with api.database.main.transaction() as connection:
        await connection.execute(text(rename.format("name", "gone")))
    try:
        answers = [
            await api.client.get(path, headers=bearer(key))
            for path in ("/api/v1/adapters", "/v1/models")
        ]
    finally:
        async with api.database.main.transaction() as connection:
            await connection.execute(text(rename.format("gone", "name")))
    for answer in answers:
        assert answer.status_code == 500
        body = answer.json()
        error = body.get("error", body)
        assert error["code"] == "internal_error"
        assert not re.search(r"adapter|select|sql|Traceback", str(error), re.IGNORECASE)
    logged = capsys.readouterr().out
    assert all(answer.headers["x-request-id"] in logged for answer in answers)
    assert "Traceback" in logged
    assert key not in logged
    assert OPERATOR not in logged


@sqlite_only
async def test_every_answer_has_a_request_id(api: Api) -> None:
    for path in ("/", "/health", "/nothing", "/v1/models", "/schema"):
        first = (await api.client.get(path)).headers["x-request-id"]
        second = (await api.client.get(path)).headers["x-request-id"]
        assert first != second, path
        own = await api.client.get(path, headers={"x-request-id": "mine-1.2_3"})
        assert own.headers["x-request-id"] == "mine-1.2_3", path
        hostile = await api.client.get(path, headers={"x-request-id": "a" * 65})
        assert hostile.headers["x-request-id"] != "a" * 65, path


async def _send(api: Api, case: Case, key: str) -> httpx.Response:
    headers = {**bearer(key), "content-type": case.content_type}
    return await api.client.request(case.method, case.path, content=case.body, headers=headers)
