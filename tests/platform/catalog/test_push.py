"""Pushing adapters in one request: what is stored, what is answered, what is refused without a trace."""

import asyncio
import json
from pathlib import Path

import pytest

from support.services import OPERATOR, Api, adapter_files, bearer, sqlite_only, with_config

MIB = 1024**2


async def test_a_peft_adapter_becomes_a_ready_version(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    answer = await api.push(key, adapter_dir, "support", alias="prod")
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert version["model"] == "support@1"
    assert version["state"] == "ready"
    assert version["base"] == "tiny"
    assert version["rank"] == 8
    assert version["aliases"] == ["prod"]
    assert version["report"]["verdict"] == "accepted"
    size = (adapter_dir / "adapter_model.safetensors").stat().st_size
    assert version["size"] == size
    assert await api.stored() == (1, -(-size // MIB), 0)
    assert api.spooled() == []


async def test_the_same_files_twice_are_two_versions_and_one_blob(
    api: Api, adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    first = (await api.push(key, adapter_dir)).json()
    second = (await api.push(key, adapter_dir)).json()
    assert (first["version"], second["version"]) == (1, 2)
    assert first["digest"] == second["digest"]
    assert (await api.stored())[0] == 1


async def test_two_tenants_never_share_a_blob(api: Api, adapter_dir: Path) -> None:
    for tenant in ("acme", "globex"):
        assert (await api.push(await api.tenant(tenant), adapter_dir)).status_code == 201
    assert (await api.stored())[0] == 2


async def test_the_digest_covers_config_and_weights(
    api: Api, adapter_dir: Path, other_adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    files = adapter_files(adapter_dir)
    pushes = [files, with_config(files, lora_alpha=99), adapter_files(other_adapter_dir)]
    digests = [(await api.push(key, pushed)).json()["digest"] for pushed in pushes]
    assert len(set(digests)) == 3


async def test_simultaneous_pushes_of_one_name_get_a_number_each(
    api: Api, adapter_dir: Path
) -> None:
    key = await api.tenant("acme")
    answers = await asyncio.gather(*(api.push(key, adapter_dir, "a") for _ in range(5)))
    assert sorted(answer.json()["version"] for answer in answers) == [1, 2, 3, 4, 5]
    size = answers[0].json()["size"]
    assert await api.stored() == (1, -(-size // MIB), 0)


async def test_an_operator_pushes_for_a_tenant(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    files = adapter_files(adapter_dir)
    answer = await api.client.post(
        "/api/v1/adapters?tenant=acme",
        headers=bearer(OPERATOR),
        data={"name": "a"},
        files={"config": files["config"], "weights": files["weights"]},
    )
    assert answer.status_code == 201, answer.text
    assert (await api.client.get("/api/v1/adapters/a", headers=bearer(key))).status_code == 200


def _rejected(files: dict[str, bytes]) -> list[tuple[str, dict[str, bytes], str]]:
    weights = files["weights"]
    nan = bytearray(weights)
    nan[-4:] = b"\x00\x00\xc0\x7f"
    return [
        ("truncated", {**files, "weights": weights[:-7]}, "weights"),
        ("longer", {**files, "weights": weights + b"x"}, "weights"),
        ("empty", {**files, "weights": b""}, "weights"),
        ("pickle", {**files, "weights": b"PK\x03\x04" + weights}, "weights"),
        ("absurd header", {**files, "weights": b"\xff" * 8 + weights}, "weights"),
        ("NaN", {**files, "weights": bytes(nan)}, "weights"),
        ("DoRA", with_config(files, use_dora=True), "use_dora"),
        ("wrong rank", with_config(files, r=4), "r"),
        ("unknown field", with_config(files, surprise=1), "surprise"),
        ("other type", with_config(files, peft_type="IA3"), "peft_type"),
        ("not JSON", {**files, "config": b"{"}, "config"),
    ]


async def test_a_refused_adapter_leaves_nothing(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    for name, files, field in _rejected(adapter_files(adapter_dir)):
        answer = await api.push(key, files)
        assert answer.status_code == 422, (name, answer.text)
        problem = answer.json()
        assert problem["code"] == "adapter_rejected", name
        assert problem["param"] == field, (name, problem)
        assert problem["report"]["verdict"] == "rejected", name
        assert problem["report"]["message"] == problem["detail"], name
        assert await api.stored() == (0, 0, 0), name
        assert api.spooled() == [], name
        listed = await api.client.get("/api/v1/adapters", headers=bearer(key))
        assert listed.json()["data"] == [], name


@sqlite_only
async def test_names_an_adapter_cannot_have(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    for name in ("", "a/b", "a@1", "a b", ".a", "a" * 64, "ä", "tiny", "a:b"):
        answer = await api.push(key, adapter_dir, name)
        assert (answer.status_code, answer.json()["param"]) == (400, "name"), name
    assert await api.stored() == (0, 0, 0)


@sqlite_only
@pytest.mark.parametrize(
    ("texts", "param"),
    [
        ({"alias": "12"}, "alias"),
        ({"alias": "a/b"}, "alias"),
        ({"base": "gpt"}, "base"),
        ({"chat_template": "{% for %}"}, "chat_template"),
    ],
)
async def test_other_bad_fields(
    api: Api, adapter_dir: Path, texts: dict[str, str], param: str
) -> None:
    answer = await api.push(await api.tenant("acme"), adapter_dir, **texts)
    assert (answer.status_code, answer.json()["param"]) == (400, param)
    assert await api.stored() == (0, 0, 0)


async def test_a_chat_template_is_kept_with_its_version(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    template = "{% for m in messages %}{{ m['content'] }}{% break %}{% endfor %}"
    answer = await api.push(key, adapter_dir, chat_template=template)
    assert answer.json()["has_chat_template"] is True


BAD_BODIES = {
    "no boundary": ("multipart/form-data", b"x"),
    "not multipart": ("application/json", b"{}"),
    "garbage": ("multipart/form-data; boundary=b", b"garbage"),
    "empty": ("multipart/form-data; boundary=b", b""),
    "cut off": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="weights"\r\n\r\nabc',
    ),
    "unknown part": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="evil"\r\n\r\nabc\r\n--b--\r\n',
    ),
    "part twice": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\na\r\n' * 2 + b"--b--\r\n",
    ),
    "no weights": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\na\r\n--b--\r\n',
    ),
}


@sqlite_only
async def test_bad_bodies(api: Api) -> None:
    key = await api.tenant("acme")
    for case, (content_type, body) in BAD_BODIES.items():
        headers = {**bearer(key), "content-type": content_type}
        answer = await api.client.post("/api/v1/adapters", headers=headers, content=body)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (400, "invalid_request"), (case, problem)
        assert await api.stored() == (0, 0, 0), case
        assert api.spooled() == [], case


@sqlite_only
@pytest.mark.parametrize("part", ["name", "config", "chat_template"])
async def test_a_huge_text_part_is_refused(api: Api, part: str) -> None:
    # Without a file name Litestar's own reader would keep it in memory.
    head = f'--b\r\ncontent-disposition: form-data; name="{part}"\r\n\r\n'.encode()
    headers = {
        **bearer(await api.tenant("acme")),
        "content-type": "multipart/form-data; boundary=b",
    }
    body = head + b"x" * (65 * 1024) + b"\r\n--b--\r\n"
    answer = await api.client.post("/api/v1/adapters", headers=headers, content=body)
    assert (answer.status_code, answer.json()["param"]) == (413, part)


@sqlite_only
async def test_an_oversized_body_is_refused_by_its_announced_length(api: Api) -> None:
    headers = {
        **bearer(await api.tenant("acme")),
        "content-type": "multipart/form-data; boundary=b",
        "content-length": str(3 * 1024**3),
    }
    answer = await api.client.post("/api/v1/adapters", headers=headers, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_several_bases_must_be_told_apart(api: Api, adapter_dir: Path) -> None:
    answer = await api.push(await api.tenant("acme"), adapter_dir, base="tiny")
    assert answer.status_code == 201
    assert json.loads(answer.text)["base"] == "tiny"
