"""Requests made to break something are answered with a 4xx that names what is wrong, on both databases."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from support.services import OPERATOR, Api, adapter_files, bearer, sqlite_only, with_config

DEEP = b"[" * 100_000
TOO_LARGE = (3_000_000_000, 2**63, 10**30)
CHAT = b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "%s": %s}'


async def send(api: Api, method: str, path: str, key: str, body: bytes = b"") -> httpx.Response:
    headers = {**bearer(key), "content-type": "application/json"}
    return await api.client.request(method, path, content=body, headers=headers)


@pytest.fixture
async def key(api: Api, adapter_dir: Path) -> str:
    """Tenant acme with one version of the adapter `a`."""
    key = await api.tenant("acme")
    assert (await api.push(key, adapter_dir)).status_code == 201
    return key


async def test_a_version_number_no_column_holds_is_not_found(api: Api, key: str) -> None:
    for n in TOO_LARGE:
        path = f"/api/v1/adapters/a/versions/{n}"
        assert (await send(api, "GET", path, key)).status_code == 404, n
        assert (await send(api, "DELETE", path, key)).status_code == 404, n
        answer = await send(
            api, "PUT", "/api/v1/adapters/a/aliases/al", key, b'{"version": %d}' % n
        )
        assert (answer.status_code, answer.json()["param"]) == (400, "version"), n
    many = "9" * 5000
    assert (await send(api, "GET", f"/api/v1/adapters/a/versions/{many}", key)).status_code == 404
    assert (await send(api, "GET", f"/api/v1/adapters?limit={many}", key)).status_code == 400


async def test_nul_characters(api: Api, key: str) -> None:
    absent = (
        ("GET", "/api/v1/adapters/%00"),
        ("DELETE", "/api/v1/adapters/%00"),
        ("GET", "/api/v1/adapters/%00/versions/1"),
        ("DELETE", "/api/v1/adapters/a/aliases/%00"),
        ("GET", "/api/v1/tenants/%00/keys"),
        ("GET", "/api/v1/tenants/acme/keys/%00"),
        ("DELETE", "/api/v1/tenants/acme/keys/%00"),
    )
    for method, path in absent:
        operator = OPERATOR if "tenants" in path else key
        assert (await send(api, method, path, operator)).status_code == 404, path
    assert (await send(api, "GET", "/v1/models/%00", key)).status_code == 404
    for path, param in (
        ("/api/v1/adapters?tenant=%00", "tenant"),
        ("/api/v1/adapters?tenant=acme&after=%00", "after"),
        ("/api/v1/tenants?after=a%00b", "after"),
    ):
        answer = await send(api, "GET", path, OPERATOR)
        assert (answer.status_code, answer.json()["param"]) == (400, param), path
    for name in ("\0", "a\0b", "a\n\0"):
        body = json.dumps({"name": name}).encode()
        answer = await send(api, "POST", "/api/v1/tenants/acme/keys", OPERATOR, body)
        assert (answer.status_code, answer.json()["param"]) == (400, "name"), name


async def test_nul_characters_in_what_is_pushed(api: Api, key: str, adapter_dir: Path) -> None:
    answer = await api.push(key, adapter_dir, chat_template="a\0b")
    assert (answer.status_code, answer.json()["param"]) == (400, "chat_template")
    for texts in ({"name": "a\0"}, {"alias": "a\0"}, {"base": "tiny\0"}):
        answer = await api.push(key, adapter_dir, **texts)
        assert answer.status_code in (400, 404), texts
    files = adapter_files(adapter_dir)
    for changes in ({"revision": "\0"}, {"base_model_name_or_path": "\0"}, {"a\0": "\0"}):
        answer = await api.push(key, with_config(files, **changes))
        assert answer.status_code in (201, 400, 422), (changes, answer.text)


@sqlite_only
async def test_a_chat_template_nested_without_end(api: Api, key: str, adapter_dir: Path) -> None:
    for template in ("{{ " + "[" * 200 + "]" * 200 + " }}", "{% if 1 %}" * 1000):
        answer = await api.push(key, adapter_dir, chat_template=template)
        assert (answer.status_code, answer.json()["param"]) == (422, "chat_template")
    marked = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert (await api.push(key, adapter_dir, chat_template=marked)).status_code == 201


MANAGEMENT = (
    ("POST", "/api/v1/tenants"),
    ("POST", "/api/v1/tenants/acme/keys"),
    ("PUT", "/api/v1/adapters/a/aliases/al?tenant=acme"),
    ("POST", "/api/v1/uploads?tenant=acme"),
)


@sqlite_only
async def test_bodies_of_the_management_api(api: Api, key: str) -> None:
    cases = (
        (DEEP, {"invalid_json", "invalid_request"}, None),
        (b'{"name": ' + DEEP, {"invalid_value", "invalid_json", "unknown_parameter"}, "name"),
        (b'{"name": "\xff"}', {"invalid_json", "unknown_parameter"}, "name"),
        (b"{", {"invalid_json"}, None),
        (b'{"bad": 1}', {"unknown_parameter", "missing_required_parameter"}, "bad"),
    )
    for method, path in MANAGEMENT:
        for body, codes, param in cases:
            problem = await send(api, method, path, OPERATOR, body)
            assert problem.status_code == 400, (path, body[:20], problem.text)
            assert problem.json()["code"] in codes, (path, body[:20], problem.text)
            assert problem.json().get("param") in (None, param), (path, body[:20], problem.text)
    missing = await send(api, "POST", "/api/v1/tenants", OPERATOR, b"{}")
    assert (missing.json()["code"], missing.json()["param"]) == (
        "missing_required_parameter",
        "name",
    )


@sqlite_only
async def test_bodies_are_described_in_the_schema(api: Api) -> None:
    paths = (await api.client.get("/schema/openapi.json")).json()["paths"]
    for path, method, fields in (
        ("/api/v1/tenants", "post", {"name"}),
        (
            "/api/v1/tenants/{tenant}/keys",
            "post",
            {"name", "scopes", "adapters", "expires_at"},
        ),
        ("/api/v1/adapters/{name}/aliases/{alias}", "put", {"version", "split", "expected"}),
        (
            "/api/v1/uploads",
            "post",
            {"name", "size", "sha256", "config", "base", "alias", "chat_template"}
            | {"parent", "defaults", "golden"},
        ),
    ):
        content = paths[path][method]["requestBody"]["content"]["application/json"]
        assert set(content["schema"]["properties"]) == fields, path


@sqlite_only
async def test_fields_of_a_chat_that_cannot_be_read(api: Api) -> None:
    key = await api.tenant("acme")
    for field in ("tool_choice", "function_call", "prediction", "audio", "moderation"):
        for value in (b'"\xff\xfe"', b'{"a": "\xff"}', b"1e999", b"9" * 6000):
            body = CHAT % (field.encode(), value)
            answer = await send(api, "POST", "/v1/chat/completions", key, body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), value


@sqlite_only
async def test_uploads_with_bytes_and_numbers_out_of_range(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    weights = adapter_files(adapter_dir)["weights"]
    sha256 = hashlib.sha256(weights).hexdigest()
    opening = b'{"name": "a", "size": %d, "sha256": "%s", "config": %s}'
    for config in (b'"\xff"', b'"\\ud800"', b'{"r": "\xff"}', b"9" * 6000, DEEP):
        body = opening % (len(weights), sha256.encode(), config)
        answer = await send(api, "POST", "/api/v1/uploads", key, body)
        assert answer.status_code in (400, 422), (config[:20], answer.text)
    answer = await send(
        api, "POST", "/api/v1/uploads", key, opening % (9, sha256.encode() + b"\\n", b"{}")
    )
    assert (answer.status_code, answer.json()["param"]) == (400, "sha256")
    config = adapter_files(adapter_dir)["config"]
    body = opening % (len(weights), sha256.encode(), config)
    upload = (await send(api, "POST", "/api/v1/uploads", key, body)).json()["id"]
    many = b"9" * 5000
    for value in (b"bytes \xb2-\xb2/*", b"bytes " + many + b"-" + many + b"/*", b"bytes 0-1/\xb2"):
        headers: list[tuple[bytes, bytes]] = [
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-range", value),
        ]
        answer = await api.client.put(f"/api/v1/uploads/{upload}", content=b"xx", headers=headers)
        assert (answer.status_code, answer.json()["param"]) == (400, "content-range"), value[:20]


ASKS = b'{"model": "tiny", "input": "x", %s}'
SAYS = b'{"model": "tiny", "max_tokens": 1, "messages": %s}'
USE = b"""[{"role": "user", "content": "x"}, {"role": "assistant", "content":
    [{"type": "tool_use", "id": "a", "name": "f", "input": {"a": %s}}]}]"""


@sqlite_only
async def test_parts_of_other_dialects_that_are_looked_at_late(api: Api) -> None:
    key = await api.tenant("acme")
    responses = [
        (ASKS % (b'"tool_choice": ' + raw), "tool_choice")
        for raw in (b"5", b"[1]", b"true", b'"\xff"', b'{"a": 1e999}', b'{"a": "\xff"}', DEEP)
    ]
    messages = [
        (SAYS % (USE % raw), "messages[1].content[0].input")
        for raw in (b'"\xff"', b"1e999", b"9" * 5000)
    ]
    for path, bodies in (("/v1/responses", responses), ("/v1/messages", messages)):
        for body, place in bodies:
            answer = await send(api, "POST", path, key, body)
            assert answer.status_code == 400, (body[:200], answer.text)
            assert body is responses[-1][0] or place in answer.text, (body[:200], answer.text)


@sqlite_only
async def test_lists_are_counted_before_their_items_are_looked_at(api: Api) -> None:
    """A body of 8 MiB has room for 250,000 of them, which would hold up everybody for seconds."""
    key = await api.tenant("acme")

    def row(item: bytes, count: int) -> bytes:
        return b"[" + b", ".join([item] * count) + b"]"

    content = b'[{"role": "user", "content": %s}]'
    cases = (
        ("/v1/responses", b'{"model": "tiny", "input": %s}' % row(b"0", 8193), "8192"),
        ("/v1/responses", ASKS % (b'"tools": ' + row(b"0", 129)), "128"),
        ("/v1/messages", SAYS % row(b'{"role": "user", "content": 0}', 8193), "8192"),
        ("/v1/messages", SAYS % (content % row(b'{"type": "x"}', 32769)), "32768"),
        (
            "/v1/messages",
            b'{"tools": %s, ' % row(b"0", 129) + (SAYS % (content % b'"x"'))[1:],
            "128",
        ),
        (
            "/tokenize",
            SAYS.replace(b'"max_tokens": 1, ', b"") % row(b'{"role": "user"}', 8193),
            "8192",
        ),
    )
    for path, body, most in cases:
        answer = await send(api, "POST", path, key, body)
        assert (answer.status_code, most in answer.text) == (400, True), (path, most, answer.text)
