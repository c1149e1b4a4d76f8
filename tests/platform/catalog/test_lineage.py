"""What a version tells of itself: what it was made from, how it came, and the defaults it comes with."""

import hashlib
import json
from pathlib import Path

import pytest

from loraplex.platform.catalog.defaults import Defaults, read_defaults, with_defaults
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.params import chat_params, completion_params
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, Message
from support.services import Api, adapter_files, bearer

DEFAULTS: dict[str, object] = {"temperature": 0.25, "stop": ["\n"], "max_tokens": 40}


async def test_lineage_by_push_and_by_upload(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    headers = bearer(key)
    first = (await api.push(key, adapter_dir)).json()
    assert (first["parent"], first["source"], first["defaults"]) == (None, {"kind": "push"}, None)
    pushed = await api.push(key, adapter_dir, parent="1", defaults=json.dumps(DEFAULTS))
    second = (await api.client.get("/api/v1/adapters/a/versions/2", headers=headers)).json()
    assert second == pushed.json()
    assert (second["parent"], second["defaults"]) == (1, DEFAULTS)
    assert second["config"]["r"] == 8
    assert second["created_by"] == first["created_by"]

    files = adapter_files(adapter_dir)
    announced = {
        "name": "a",
        "size": len(files["weights"]),
        "sha256": hashlib.sha256(files["weights"]).hexdigest(),
        "config": files["config"].decode(),
        "parent": 2,
        "defaults": DEFAULTS,
        "golden": [{"prompt": [1], "expected": "x"}],
    }
    upload = (await api.client.post("/api/v1/uploads", json=announced, headers=headers)).json()
    path = f"/api/v1/uploads/{upload['id']}"
    await api.client.put(path, content=files["weights"], headers=headers)
    # A parent may go before its child comes.
    await api.client.delete("/api/v1/adapters/a/versions/2", headers=headers)
    third = (await api.client.post(f"{path}/complete", headers=headers)).json()
    assert (third["parent"], third["source"], third["defaults"]) == (
        2,
        {"kind": "upload"},
        DEFAULTS,
    )
    assert [(g["prompt"], g["expected"], g["result"]) for g in third["golden"]] == [
        ([1], "x", None)
    ]

    for parent in ("0", "4", "x", "-1", "99999999999"):
        refused = await api.push(key, adapter_dir, parent=parent)
        assert (refused.status_code, refused.json()["param"]) == (400, "parent"), parent
    refused = await api.client.post(
        "/api/v1/uploads", json={**announced, "parent": 4}, headers=headers
    )
    assert (refused.status_code, refused.json()["param"]) == (400, "parent")
    unknown = await api.push(key, adapter_dir, "new", parent="1")
    assert unknown.status_code == 400
    assert (await api.client.get("/api/v1/adapters/new", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"temperature": 3}, "defaults.temperature"),
        ({"top_p": 0}, "defaults.top_p"),
        ({"max_tokens": -1}, "defaults.max_tokens"),
        ({"stop": ["a"] * 100}, "defaults.stop"),
        ({"stop": 1}, "defaults.stop"),
        ({"seed": 2**64}, "defaults.seed"),
        ({"model": "b"}, "defaults.model"),
        ([], "defaults"),
    ],
)
def test_defaults_have_the_ranges_of_requests(given: object, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        read_defaults(json.dumps(given).encode())
    assert caught.value.param == param


def test_defaults_fill_what_a_request_leaves_out() -> None:
    defaults = read_defaults(json.dumps({**DEFAULTS, "top_k": 5, "seed": 9}).encode())
    assert defaults is not None
    plain = completion_params(with_defaults(CompletionRequest(model="a"), defaults))
    assert (plain.temperature, plain.stop, plain.max_tokens) == (0.25, ("\n",), 40)
    assert (plain.top_k, plain.seed, plain.top_p) == (5, 9, 1.0)
    own = CompletionRequest(model="a", temperature=0.0, stop=[], max_tokens=3, top_k=0, seed=1)
    params = completion_params(with_defaults(own, defaults))
    assert (params.temperature, params.stop, params.max_tokens) == (0.0, (), 3)
    assert (params.top_k, params.seed) == (0, 1)
    chat = ChatRequest(model="a", messages=[Message(role="user", content="x")])
    assert chat_params(with_defaults(chat, defaults)).max_tokens == 40
    newer = ChatRequest(model="a", messages=chat.messages, max_completion_tokens=7)
    assert chat_params(with_defaults(newer, defaults)).max_tokens == 7
    assert with_defaults(own, None) is own
    assert read_defaults(b"{}") is None
    assert read_defaults(b'{"top_k": null}') is None
    assert Defaults.__struct_fields__ == tuple(
        name for name in Defaults.__struct_fields__ if hasattr(own, name)
    )
