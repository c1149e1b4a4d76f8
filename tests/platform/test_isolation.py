"""Every route of the OpenAPI document, called by one tenant about objects of another: the answer is, byte for byte, the
one about objects that do not exist."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import (
    Job,
    LedgerEntry,
    Membership,
    OneTimeCode,
    StoredResponse,
    User,
    UserSession,
    Webhook,
    WebhookDelivery,
)
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import OPERATOR, Api, adapter_files, bearer

METHODS = ("get", "post", "put", "patch", "delete", "head")
# Parameters that name an object: one of the first tenant, and one of the same form that nobody has.
ABSENT = {
    "tenant": "nobody",
    "name": "absent",
    "alias": "absent",
    "n": "7",
    "file": "adapter_config.json",
    "key_id": "ABSENTabsent",
    "user_id": "usr_absent00",
    "model": "absent",
    "base": "absent",
    "response_id": "resp_" + "0" * 24,
    "file_id": f"file-{UUID(int=9).hex}",
    "file_upload_id": f"upload_{UUID(int=9).hex}",
    "batch_id": f"batch_{UUID(int=9).hex}",
}
RESPONSE = "resp_" + "a" * 24
_NO_ID = "00000000-0000-7000-8000-000000000000"
ASKED = {"messages": [{"role": "user", "content": "x"}]}
# Bodies with which a request of the right tenant would succeed, as far as a walk can have them.
BODIES: dict[tuple[str, str], object] = {
    ("put", "/api/v1/adapters/{name}/aliases/{alias}"): {"version": 1},
    ("post", "/api/v1/adapters/{name}/aliases/{alias}/rollback"): {},
    ("patch", "/api/v1/adapters/{name}"): {"max_running": 3},
    ("put", "/api/v1/adapters/{name}/versions/{n}/golden"): {"golden": []},
    ("patch", "/api/v1/tenants/{tenant}/keys/{key_id}"): {"name": "mine"},
    ("post", "/api/v1/tenants/{tenant}/keys/{key_id}/rotate"): {"overlap_seconds": 0},
    ("post", "/api/v1/tenants/{tenant}/keys"): {"name": "mine"},
    ("put", "/api/v1/tenants/{tenant}/limits/adapters/{name}"): {"requests_per_minute": 1},
    ("put", "/api/v1/tenants/{tenant}/limits/keys/{key_id}"): {"requests_per_minute": 1},
    ("put", "/api/v1/tenants/{tenant}/limits"): {"requests_per_minute": 1},
    ("patch", "/api/v1/tenants/{tenant}"): {"weight": 9.0},
    ("post", "/api/v1/tenants/{tenant}/members"): {"email": "a@example.com", "role": "owner"},
    ("patch", "/api/v1/tenants/{tenant}/members/{user_id}"): {"role": "viewer"},
    ("post", "/api/v1/tenants/{tenant}/invitations"): {"email": "b@example.com", "role": "viewer"},
    ("patch", "/api/v1/webhooks/{webhook_id}"): {"description": "mine"},
    ("post", "/v1/completions"): {"model": "{model}", "prompt": "x", "max_tokens": 1},
    ("post", "/v1/chat/completions"): {
        "model": "{model}",
        "messages": [{"role": "user", "content": "x"}],
    },
    ("post", "/v1/responses"): {"model": "{model}", "input": "x", "max_output_tokens": 16},
    ("post", "/v1/responses/input_tokens"): {"model": "{model}", "input": "x"},
    ("post", "/v1/messages"): {**ASKED, "model": "{model}", "max_tokens": 1},
    ("post", "/v1/messages/count_tokens"): {**ASKED, "model": "{model}"},
    ("post", "/t/{tenant}/v1/responses"): {"model": "tiny", "input": "x"},
    ("post", "/t/{tenant}/v1/responses/input_tokens"): {"model": "tiny", "input": "x"},
    ("post", "/t/{tenant}/v1/messages"): {**ASKED, "model": "tiny", "max_tokens": 1},
    ("post", "/t/{tenant}/v1/messages/count_tokens"): {**ASKED, "model": "tiny"},
    ("post", "/t/{tenant}/v1/completions"): {"model": "tiny", "prompt": "x", "max_tokens": 1},
    ("post", "/t/{tenant}/v1/chat/completions"): {
        "model": "tiny",
        "messages": [{"role": "user", "content": "x"}],
    },
}


# Routes whose body names a model.
MODEL_IN_BODY = {
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
}


@dataclass
class World:
    """What the first tenant has, by the parameter that names it; `path` first where a name means different things."""

    ids: dict[str, str]
    keys: list[str] = field(default_factory=list)  # of the second tenant


@pytest.fixture
async def world(api: Api, adapter_dir: Path) -> World:
    """Tenant acme with one of everything, and tenant globex with keys that may do everything."""
    acme = await api.tenant("acme")
    admin = await api.tenant("acme", "admin", "usage")
    pushed = await api.push(acme, adapter_dir, "secret", alias="prod")
    assert pushed.status_code == 201, pushed.text
    files = adapter_files(adapter_dir)
    upload = await api.client.post(
        "/api/v1/uploads",
        headers=bearer(acme),
        json={"name": "u", "size": 99, "sha256": "0" * 64, "config": json.loads(files["config"])},
    )
    keys = await api.client.get("/api/v1/tenants/acme/keys", headers=bearer(admin))
    tenant = (await api.client.get("/api/v1/tenants/acme", headers=bearer(OPERATOR))).json()["id"]
    rows = _rows(UUID(tenant))
    async with api.database.main.writing(EVERY_TENANT) as session:
        for row in rows.values():
            session.add(row)
            await session.flush()
    ids = {
        "tenant": "acme",
        "name": "secret",
        "alias": "prod",
        "n": "1",
        "file": "adapter_config.json",
        "model": "secret",
        "base": "tiny",
        "key_id": keys.json()["data"][0]["id"],
        "upload_id": upload.json()["id"],
        **{name: str(getattr(row, "id", "")) for name, row in rows.items()},
        "response_id": RESPONSE,
        **await _files(api, acme),
    }
    second = [
        await api.tenant("globex", *scopes)
        for scopes in ((), ("admin", "adapters", "usage"), ("inference",))
    ]
    return World(ids, second)


async def _files(api: Api, key: str) -> dict[str, str]:
    """What there is of files, uploads and batches."""
    head = bearer(key)
    file = await api.client.post(
        "/v1/files", headers=head, data={"purpose": "batch"}, files={"file": ("a", b"{}")}
    )
    new = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "text/plain"}
    upload = await api.client.post("/v1/uploads", headers=head, json=new)
    run = {
        "input_file_id": file.json()["id"],
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    batch = await api.client.post("/v1/batches", headers=head, json=run)
    return {
        "file_id": file.json()["id"],
        "file_upload_id": upload.json()["id"],
        "batch_id": batch.json()["id"],
    }


def _rows(tenant: UUID) -> dict[str, Any]:
    """What has no simple way through the API here, in an order that foreign keys allow."""
    user = User(id="usr_acme0001", email="o@acme.example")
    hook = Webhook(
        tenant_id=tenant, url="https://example.com/", secret="x", events=[], created_by="k"
    )
    hook.id = UUID(int=2)
    later = utc_now() + timedelta(days=1)
    return {
        "user_id": user,
        "session_id": UserSession(
            user_id=user.id, token_sha256="2" * 64, csrf_token="x", expires_at=later
        ),
        "member": Membership(tenant_id=tenant, user_id=user.id, role="owner"),
        "invitation_id": OneTimeCode(
            sha256="1" * 64,
            purpose="invitation",
            tenant_id=tenant,
            email="i@acme.example",
            role="viewer",
            expires_at=later,
        ),
        "webhook_id": hook,
        "delivery_id": WebhookDelivery(
            tenant_id=tenant, webhook_id=hook.id, event="webhook.test", body=b"{}", state="failed"
        ),
        "job_id": Job(
            tenant_id=tenant, kind="import", request={}, state="succeeded", created_by="k"
        ),
        "response": StoredResponse(
            tenant_id=tenant,
            response_id=RESPONSE,
            subject="tiny",
            input=b"[]",
            response=b"{}",
            chain=[],
            size=4,
            expires_at=later,
        ),
        "request_id": LedgerEntry(
            tenant_id=tenant,
            key_id="k",
            answer_id="cmpl-acme",
            base_model="tiny",
            adapter="secret",
            finish_reason="stop",
            prompt_tokens=1,
            cached_tokens=0,
            output_tokens=1,
            total_ms=1.0,
            preemptions=0,
        ),
    }


async def operations(api: Api) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of every operation in the document."""
    document = (await api.client.get("/schema/openapi.json")).json()
    return [
        (method, path, described)
        for path, item in sorted(document["paths"].items())
        for method, described in item.items()
        if method in METHODS
    ]


def named(path: str, described: Mapping[str, Any]) -> list[str]:
    return [p["name"] for p in described.get("parameters", []) if p["in"] == "path"]


async def call(
    api: Api, key: str, method: str, path: str, ids: Mapping[str, str], query: Mapping[str, str]
) -> httpx.Response:
    url, body = path, json.dumps(BODIES.get((method, path), {}))
    for name, value in ids.items():
        url = url.replace(f"{{{name}}}", value)
        body = body.replace(f"{{{name}}}", value)
    content = body.encode() if method in ("post", "put", "patch") else None
    return await api.client.request(method, url, params=query, content=content, headers=bearer(key))


def told(answer: httpx.Response, ids: Mapping[str, str]) -> tuple[int, str]:
    """Status and body, without the name that the caller had given."""
    # Bodies of Anthropic's errors repeat it.
    text = answer.text.replace(answer.headers["x-request-id"], "<request>")
    for name, value in sorted(ids.items(), key=lambda pair: -len(pair[1])):
        if len(value) > 2:
            text = text.replace(value, f"<{name}>")
    return answer.status_code, text


def combinations(
    names: list[str], ids: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Names of the first tenant's objects beside names of the same form that nobody has."""
    absent = {name: ABSENT.get(name, _NO_ID) for name in names}
    yield {name: ids[name] for name in names}, absent
    if len(names) > 1 and names[0] == "tenant":
        # The caller's own tenant, with an object of the other.
        yield (
            {name: "globex" if name == "tenant" else ids[name] for name in names},
            absent | {"tenant": "globex"},
        )


async def test_objects_of_another_tenant_do_not_exist(api: Api, world: World) -> None:
    walked = 0
    for method, path, described in await operations(api):
        names = named(path, described)
        if path in MODEL_IN_BODY:
            names = ["model"]
        if not names or path == "/api/v1/prices/{base}":  # prices of base models are everybody's
            continue
        assert set(names) <= world.ids.keys(), f"{path}: say what {names} are in this test's world"
        for key in world.keys:
            for theirs, absent in combinations(names, world.ids):
                one = await call(api, key, method, path, theirs, {})
                other = await call(api, key, method, path, absent, {})
                assert told(one, theirs) == told(other, absent), f"{method} {path}"
                assert one.status_code in (403, 404), f"{method} {path}: {one.text}"
                walked += one.status_code == 404
    assert walked > 80


async def test_another_tenant_cannot_be_named_in_a_query(api: Api, world: World) -> None:
    walked = 0
    for method, path, described in await operations(api):
        parameters = [p["name"] for p in described.get("parameters", []) if p["in"] == "query"]
        if "tenant" not in parameters:
            continue
        names = named(path, described)
        ids = {name: world.ids[name] for name in names}
        for key in world.keys:
            one = await call(api, key, method, path, ids, {"tenant": "acme"})
            other = await call(api, key, method, path, ids, {"tenant": "nobody"})
            assert told(one, {"t": "acme"}) == told(other, {"t": "nobody"}), f"{method} {path}"
            assert one.status_code in (403, 404), f"{method} {path}: {one.text}"
            walked += 1
    assert walked > 20


async def test_lists_show_ones_own_and_nothing_else(api: Api, world: World) -> None:
    for method, path, described in await operations(api):
        # The stream of events does not end; its own test is in events/.
        if method != "get" or named(path, described) or path == "/api/v1/events":
            continue
        for key in world.keys:
            answer = await api.client.get(path, headers=bearer(key))
            if path.startswith("/api/v1/session/oidc") or answer.status_code in (403, 404):
                continue
            for name in (
                "tenant",
                "name",
                "key_id",
                "upload_id",
                "job_id",
                "webhook_id",
                "request_id",
                "file_id",
                "batch_id",
            ):
                if path in ("/metrics",):
                    continue
                assert world.ids[name] not in answer.text, f"{path} tells of {name}"
