"""A version comes back as the files it was made of, whole or in part, and PEFT loads them."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import transformers
from click.testing import CliRunner

from loraplex.platform.catalog.download import Slice, UnsatisfiableRangeError, parse_range
from loraplex.platform.cli.main import main
from loraplex.platform.settings import ServedModel, Settings
from support.api_server import api_server
from support.services import OPERATOR, Api, adapter_files, bearer

FILES = "/api/v1/adapters/a/versions/1/files"
WEIGHTS = f"{FILES}/adapter_model.safetensors"


async def test_files_come_back_as_they_were_pushed(
    api: Api, adapter_dir: Path, base_dir: Path, tmp_path: Path
) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    await api.push(key, files)
    listed = (await api.client.get(FILES, headers=bearer(key))).json()["data"]
    assert [file["name"] for file in listed] == ["adapter_config.json", "adapter_model.safetensors"]
    for file in listed:
        answer = await api.client.get(f"{FILES}/{file['name']}", headers=bearer(key))
        assert answer.status_code == 200
        assert len(answer.content) == file["size"] == int(answer.headers["content-length"])
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert answer.headers["etag"] == f'"{file["sha256"]}"'
        (tmp_path / file["name"]).write_bytes(answer.content)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == files["weights"]
    _same_function(base_dir, adapter_dir, tmp_path)
    # What comes back is the same version again.
    pushed = [(await api.push(key, folder, "b")).json() for folder in (adapter_dir, tmp_path)]
    assert pushed[0]["digest"] == pushed[1]["digest"]


def _same_function(base_dir: Path, first: Path, second: Path) -> None:
    outputs = []
    for folder in (first, second):
        base = transformers.AutoModelForCausalLM.from_pretrained(base_dir)
        model = peft.PeftModel.from_pretrained(base, str(folder))
        with torch.no_grad():
            outputs.append(model(torch.arange(12)[None]).logits)
    assert torch.equal(*outputs)


async def test_parts_of_a_file(api: Api, adapter_dir: Path) -> None:
    key, weights = await api.tenant("acme"), adapter_files(adapter_dir)["weights"]
    await api.push(key, adapter_dir)
    size, tag = len(weights), f'"{hashlib.sha256(weights).hexdigest()}"'

    async def get(**headers: str) -> tuple[int, bytes, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await api.client.get(WEIGHTS, headers={**bearer(key), **named})
        return answer.status_code, answer.content, answer.headers.get("content-range")

    for value, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=100-", 100, size - 1),
        ("bytes=-7", size - 7, size - 1),
        (f"bytes=5-{size * 9}", 5, size - 1),
        (f"bytes=-{size * 9}", 0, size - 1),
    ):
        expected = (206, weights[first : last + 1], f"bytes {first}-{last}/{size}")
        assert await get(range=value) == expected, value
        assert await get(range=value, if_range=tag) == expected
    for value in ("bytes=0-1,5-6", "items=0-1", "bytes=9-2", "bytes=-", "bytes=a-b", "x"):
        assert await get(range=value) == (200, weights, None), value
    assert (await get(range="bytes=0-1", if_range='"another"'))[0] == 200
    for value in (f"bytes={size}-", "bytes=-0"):
        assert await get(range=value) == (416, b"", f"bytes */{size}"), value
    for value in (tag, f'"another", W/{tag}', "*"):
        assert (await get(if_none_match=value))[:2] == (304, b""), value
    assert (await get(if_none_match='"another"'))[0] == 200
    head = await api.client.head(WEIGHTS, headers=bearer(key))
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-length"] == str(size)
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("size", [1, 1024**2, 1024**2 + 1, 17 * 1024**2])
def test_ranges_lie_within_the_file(size: int) -> None:
    assert parse_range("bytes=0-", size) == Slice(0, size - 1)
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(f"bytes={size}-{size}", size)


async def test_ranges_over_many_chunks(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    length = int.from_bytes(files["weights"][:8], "little")
    header = files["weights"][8 : 8 + length] + b" " * 1_900_000
    weights = len(header).to_bytes(8, "little") + header + files["weights"][8 + length :]
    await api.push(key, {**files, "weights": weights})
    for first, last in ((0, len(weights) - 1), (1024**2 - 1, 1024**2), (1024**2, len(weights) - 2)):
        answer = await api.client.get(
            WEIGHTS, headers={**bearer(key), "range": f"bytes={first}-{last}"}
        )
        assert answer.content == weights[first : last + 1]


async def test_an_archive_holds_both_files(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    await api.push(key, adapter_dir)
    answer = await api.client.get("/api/v1/adapters/a/versions/1/archive", headers=bearer(key))
    assert len(answer.content) == int(answer.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        names = archive.getnames()
        member = archive.extractfile("a-1/adapter_model.safetensors")
        assert member is not None
        assert member.read() == adapter_files(adapter_dir)["weights"]
    assert names == ["a-1/adapter_config.json", "a-1/adapter_model.safetensors"]


async def test_files_of_another_tenant_look_absent(api: Api, adapter_dir: Path) -> None:
    await api.push(await api.tenant("acme"), adapter_dir)
    other = bearer(await api.tenant("globex"))
    for path in ("files", "files/adapter_config.json", "archive"):
        foreign = await api.client.get(f"/api/v1/adapters/a/versions/1/{path}", headers=other)
        absent = await api.client.get(f"/api/v1/adapters/b/versions/1/{path}", headers=other)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text.replace("'a'", "'b'") == absent.text
    mine = bearer(await api.tenant("acme"))
    for path in ("files/../../../x", "files/adapter_model.bin", "files/%2e%2e%2fx"):
        answer = await api.client.get(f"/api/v1/adapters/a/versions/1/{path}", headers=mine)
        assert answer.status_code == 404


async def test_a_part_that_arrives_damaged_is_not_stored(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    opened = await api.client.post(
        "/api/v1/uploads",
        headers=bearer(key),
        json={
            "name": "a",
            "size": len(files["weights"]),
            "sha256": hashlib.sha256(files["weights"]).hexdigest(),
            "config": files["config"].decode(),
        },
    )
    path = f"/api/v1/uploads/{opened.json()['id']}"
    digest = base64.b64encode(hashlib.sha256(files["weights"]).digest()).decode()

    async def send(data: bytes, announced: str) -> tuple[int, object]:
        headers = {**bearer(key), "content-digest": announced}
        answer = await api.client.put(path, content=data, headers=headers)
        return answer.status_code, answer.json().get("code", answer.json().get("received"))

    damaged = files["weights"][:-1] + b"?"
    assert await send(damaged, f"sha-256=:{digest}:") == (400, "digest_mismatch")
    assert await send(files["weights"], "sha-256=:zzz:") == (400, "invalid_request")
    assert await send(files["weights"], f"md5=:{digest}:") == (400, "invalid_request")
    too_long = files["weights"] + b"?"
    assert (await send(too_long, f"sha-256=:{digest}:"))[0] == 413
    assert (await api.client.get(path, headers=bearer(key))).json()["received"] == 0
    both = f"sha-512=:AAAA:, sha-256=:{digest}:"
    assert await send(files["weights"], both) == (200, len(files["weights"]))
    assert api.spooled() == []


@pytest.mark.e2e
def test_pull_saves_a_directory_or_nothing(
    tmp_path: Path, base_dir: Path, adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a real server, as users have it; imports from its disk on the way."""
    settings = Settings(data_dir=tmp_path / "data", models=(ServedModel(base_dir, "tiny"),))
    run = CliRunner()
    with api_server(replace(settings, import_dir=adapter_dir.parent)) as server:
        monkeypatch.setenv("LORAPLEX_URL", server.url)
        monkeypatch.setenv("LORAPLEX_API_KEY", OPERATOR)
        for line in (
            "tenant create acme",
            f"adapter import a --path {adapter_dir.name} --alias prod --tenant acme",
            f"adapter pull a {tmp_path / 'alone'} --tenant acme",
            f"adapter pull a@1 {tmp_path / 'numbered'} --tenant acme",
            f"adapter pull a@prod {tmp_path / 'named'} --tenant acme",
            "storage show --tenant acme",
            "storage gc",
        ):
            result = run.invoke(main, line.split())
            assert result.exit_code == 0, (line, result.output)
        for line, says in (
            (f"adapter pull a@7 {tmp_path / 'absent'} --tenant acme", "no version 7"),
            (f"adapter pull a@canary {tmp_path / 'absent'} --tenant acme", "no alias"),
            (f"adapter pull b {tmp_path / 'absent'} --tenant acme", "no adapter"),
            (f"adapter pull a {tmp_path / 'alone'} --tenant acme", "exists already"),
            ("adapter import a --path absent --tenant acme", "--import-dir"),
            ("adapter import a --tenant acme", "exactly one"),
        ):
            result = run.invoke(main, line.split())
            assert result.exit_code != 0
            assert says in result.output, line
    weights = adapter_files(adapter_dir)["weights"]
    for name in ("alone", "numbered", "named"):
        assert (tmp_path / name / "adapter_model.safetensors").read_bytes() == weights
        json.loads((tmp_path / name / "adapter_config.json").read_text())
    assert not (tmp_path / "absent").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
