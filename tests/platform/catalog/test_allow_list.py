"""A key that is confined to some adapters: everything else of its tenant looks as if it were not there."""

import hashlib
from pathlib import Path

from sqlalchemy import update

from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import Api, adapter_files, bearer

ROUTES: list[tuple[str, str, dict[str, object] | None]] = [
    ("GET", "/api/v1/adapters/{}", None),
    ("PATCH", "/api/v1/adapters/{}", {"max_running": 1}),
    ("DELETE", "/api/v1/adapters/{}", None),
    ("GET", "/api/v1/adapters/{}/versions", None),
    ("GET", "/api/v1/adapters/{}/versions/1", None),
    ("DELETE", "/api/v1/adapters/{}/versions/1", None),
    ("PUT", "/api/v1/adapters/{}/versions/1/golden", {"golden": []}),
    ("PUT", "/api/v1/adapters/{}/versions/1/golden", {"golden": 1}),
    ("POST", "/api/v1/adapters/{}/versions/1/golden/check", None),
    ("PUT", "/api/v1/adapters/{}/aliases/prod", {"version": 1}),
    ("PUT", "/api/v1/adapters/{}/aliases/prod", {"version": 0}),
    ("PUT", "/api/v1/adapters/{}/aliases/1", {"version": 1}),
    ("POST", "/api/v1/adapters/{}/aliases/prod/rollback", None),
    ("DELETE", "/api/v1/adapters/{}/aliases/prod", None),
    ("GET", "/v1/models/{}", None),
    ("GET", "/v1/models/{}@1", None),
    ("GET", "/v1/models/{}@prod", None),
    ("POST", "/v1/completions", {"model": "{}", "prompt": [1]}),
    ("POST", "/v1/completions", {"model": "{}@prod", "prompt": [1], "temperature": 9}),
    (
        "POST",
        "/v1/chat/completions",
        {"model": "{}", "messages": [{"role": "user", "content": ""}]},
    ),
]


async def confined(api: Api, key: str, *adapters: str) -> str:
    """A second key of acme, with an allow-list."""
    own = await api.tenant("acme")
    async with api.database.main.writing(EVERY_TENANT) as session:
        chosen = update(ApiKey).where(ApiKey.id == own.split("_")[2])
        await session.execute(chosen.values(adapters=list(adapters)))
    return own


async def test_what_is_not_listed_is_not_there(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    for name in ("mine", "hidden"):
        assert (await api.push(key, adapter_dir, name, alias="prod")).status_code == 201
    own = bearer(await confined(api, key, "mine", "to-come"))
    for method, path, body in ROUTES:
        answers = []
        for name in ("hidden", "absent"):
            filled = body and {
                k: v.replace("{}", name) if isinstance(v, str) else v for k, v in body.items()
            }
            answer = await api.client.request(method, path.format(name), json=filled, headers=own)
            answers.append((answer.status_code, answer.text.replace(name, "NAME")))
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] in (400, 404), (method, path)
    for name in ("hidden", "absent"):
        assert (await api.push(key, adapter_dir, "probe")).status_code == 201
        pushed = await api.push(own["authorization"].split()[1], adapter_dir, name)
        assert (pushed.status_code, pushed.json()["detail"]) == (
            404,
            f"There is no adapter '{name}'.",
        )
    listed = (await api.client.get("/v1/models", headers=own)).json()["data"]
    assert [model["id"] for model in listed] == ["mine", "mine@prod"]
    adapters = (await api.client.get("/api/v1/adapters", headers=own)).json()["data"]
    assert [adapter["name"] for adapter in adapters] == ["mine"]
    assert (await api.client.get("/v1/models/tiny", headers=own)).status_code == 404
    assert (await api.client.get("/v1/models/mine", headers=own)).status_code == 200
    assert (await api.client.get("/api/v1/adapters/hidden", headers=bearer(key))).status_code == 200


async def test_uploads_of_other_adapters_are_not_there_either(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    token = await confined(api, key, "to-come")
    own, files = bearer(token), adapter_files(adapter_dir)
    announced = {
        "size": len(files["weights"]),
        "sha256": hashlib.sha256(files["weights"]).hexdigest(),
        "config": files["config"].decode(),
    }
    body = {"name": "hidden", **announced}
    assert (await api.client.post("/api/v1/uploads", json=body, headers=own)).status_code == 404
    upload = (await api.client.post("/api/v1/uploads", json=body, headers=bearer(key))).json()
    for method, path in (("GET", ""), ("PUT", ""), ("POST", "/complete"), ("DELETE", "")):
        answers = [
            await api.client.request(method, f"/api/v1/uploads/{upload_id}{path}", headers=own)
            for upload_id in (upload["id"], upload["id"].replace(upload["id"][-4:], "0000"))
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.text for answer in answers}) == 1
    assert (await api.push(token, adapter_dir, "to-come")).status_code == 201
