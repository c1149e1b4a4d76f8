"""Imports from the Hugging Face Hub: what comes in, what is kept of where it came from, and what goes wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from loraplex.platform.db.models import Job
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.imports import remote_file
from loraplex.platform.imports.options import ImportOptions
from loraplex.platform.settings import Settings
from support.hub import COMMIT, MOVED, Hub
from support.importing import begin, ended, imported
from support.services import OPERATOR, Api, adapter_files, bearer, with_config

SOURCE: dict[str, object] = {"huggingface": {"repo": "org/lora"}}
TOKEN = "hf_a_secret_nobody_may_see"  # of the test's own server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "PAUSE_SECONDS", 0.01)


async def version(api: Api, key: str, n: int = 1) -> dict[str, Any]:
    answer = await api.client.get(f"/api/v1/adapters/a/versions/{n}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_repository_becomes_a_version(api: Api, hub: Hub, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    job = await imported(api, key, SOURCE, alias="prod")
    assert job["state"] == "succeeded", job
    source = {"kind": "huggingface", "repo": "org/lora", "revision": "main", "commit": COMMIT}
    assert isinstance(job["result"], dict)
    assert job["result"]["model"] == "a@1"
    assert job["result"]["source"] == source
    made = await version(api, key)
    pushed = (await api.push(key, adapter_dir, "b")).json()
    assert (made["aliases"], made["digest"]) == (["prod"], pushed["digest"])
    # Both files were asked for at one commit, and the token-less server of large files by its own name.
    assert [path for path, _ in hub.asked] == [
        "/org/lora/resolve/main/adapter_config.json",
        f"/org/lora/resolve/{COMMIT}/adapter_model.safetensors",
        f"cdn/org/lora/resolve/{COMMIT}/adapter_model.safetensors",
    ]
    assert api.spooled() == []


async def test_a_branch_that_moves_meanwhile_is_read_at_one_commit(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    hub.gate.clear()
    job = await begin(api, key, {"huggingface": {"repo": "org/lora", "revision": "refs/pr/1"}})
    hub.commit = COMMIT
    hub.gate.set()
    done = await ended(api, key, job)
    assert isinstance(done["result"], dict)
    assert done["result"]["source"]["commit"] == COMMIT
    assert hub.asked[0][0] == "/org/lora/resolve/refs/pr/1/adapter_config.json"
    assert {path.split("/resolve/")[1].split("/")[0] for path, _ in hub.asked[1:]} == {COMMIT}
    hub.commit = MOVED
    again = await imported(api, key, SOURCE)
    assert isinstance(again["result"], dict)
    assert again["result"]["source"]["commit"] == MOVED


async def test_a_token_reaches_the_hub_alone_and_is_never_kept(
    api: Api, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await api.tenant("acme")
    hub.token = TOKEN
    refused = await imported(api, key, SOURCE)
    assert refused["state"] == "failed"
    assert "give a token" in str(refused["error"])
    hub.asked.clear()
    job = await imported(api, key, {"huggingface": {"repo": "org/lora", "token": TOKEN}})
    assert job["state"] == "succeeded", job
    assert [authorization for _, authorization in hub.asked] == [f"Bearer {TOKEN}"] * 2 + [None]
    async with api.database.main.reading(EVERY_TENANT) as session:
        rows = (await session.scalars(select(Job))).all()
    assert TOKEN not in repr([(row.request, row.result, row.error) for row in rows])
    audit = await api.client.get("/api/v1/audit", headers=bearer(OPERATOR))
    assert TOKEN not in audit.text
    output = capsys.readouterr()
    assert TOKEN not in output.out + output.err


async def test_a_broken_connection_is_continued(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    hub.breaks = 3
    hub.status = [503]
    job = await imported(api, key, SOURCE)
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert (await version(api, key))["weights_sha256"]


async def test_what_is_not_there_or_wrong_fails_with_one_sentence(
    api: Api, hub: Hub, adapter_dir: Path
) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    config = with_config(files, use_dora=True)["config"]
    weights = files["weights"]
    hub.files["org/dora"] = {"adapter_config.json": config, "adapter_model.safetensors": weights}
    hub.files["org/pickle"] = {"adapter_config.json": files["config"], "adapter_model.bin": weights}
    hub.files["org/full"] = {"config.json": b"{}"}
    for repo, says in (
        ("org/absent", "is not there, or may not be read"),
        ("org/pickle", "has no adapter_model.safetensors"),
        ("org/full", "has no adapter_config.json"),
        ("org/dora", "DoRA"),
    ):
        job = await imported(api, key, {"huggingface": {"repo": repo}})
        assert job["state"] == "failed"
        assert says in str(job["error"])
        assert job["result"] is None
    assert await api.stored() == (0, 0, 0)


async def test_a_wrong_adapter_is_refused_before_its_weights_are_fetched(
    api: Api, hub: Hub, adapter_dir: Path
) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    hub.files["org/lora"]["adapter_config.json"] = with_config(files, r=64)["config"]
    # As a sender would that is paid by the byte: only the first ones are of use.
    hub.files["org/lora"]["adapter_model.safetensors"] = files["weights"] + bytes(64 * 1024**2)
    job = await imported(api, key, SOURCE)
    assert "longer than its tensors" in str(job["error"])


async def test_weights_other_than_the_hub_tells_of_are_refused(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    hub.etag = '"' + "0" * 64 + '"'
    job = await imported(api, key, SOURCE)
    assert "not those the source tells of" in str(job["error"])
    assert await api.stored() == (0, 0, 0)


async def test_a_redirect_leads_to_no_private_address(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    for location, says in (
        ("http://169.254.169.254/latest/meta-data/", "public internet"),
        ("http://10.0.0.1/x", "public internet"),
        ("https://[::1]/x", "public internet"),
        ("https://[::ffff:127.0.0.1]/x", "public internet"),
        ("http://2130706433/", "public internet"),
        ("http://localhost:22/x", "must be"),
        ("file:///etc/passwd", ""),
        ("gopher://127.0.0.1/x", ""),
    ):
        hub.redirect = location
        job = await imported(api, key, SOURCE)
        assert job["state"] == "failed", location
        assert says in str(job["error"])
        assert "169.254" not in str(job["error"])


async def test_sources_that_cannot_be_are_refused_at_once(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    for source, param in (
        ({}, "source"),
        ({"huggingface": {"repo": "org/lora"}, "path": "x"}, "source"),
        ({"huggingface": {"repo": "lora"}}, "source.huggingface.repo"),
        ({"huggingface": {"repo": "../../etc/passwd"}}, "source.huggingface.repo"),
        ({"huggingface": {"repo": "org/a/b"}}, "source.huggingface.repo"),
        ({"huggingface": {"repo": "o\0g/lora"}}, "source.huggingface.repo"),
        ({"huggingface": {"repo": "org/a", "revision": "../a"}}, "source.huggingface.revision"),
        ({"huggingface": {"repo": "org/a", "revision": ""}}, "source.huggingface.revision"),
        ({"huggingface": {"repo": "org/a", "subfolder": "../x"}}, "source.huggingface.subfolder"),
        # Refused at once: a pattern that reads a long name in many ways would take for ever.
        (
            {"huggingface": {"repo": "o/a", "subfolder": "a" * 700 + "!"}},
            "source.huggingface.subfolder",
        ),
        ({"huggingface": {"repo": "org/a", "token": "a\nb"}}, "source.huggingface.token"),
        ({"huggingface": {"repo": "org/a", "url": "x"}}, "source.huggingface.url"),
        ({"huggingface": 7}, "source.huggingface"),
        ({"s3": {"bucket": "../x"}}, "source.s3.bucket"),
        ({"s3": {"bucket": "abc", "region": "a.evil.example/"}}, "source.s3.region"),
        ({"s3": {"bucket": "abc", "prefix": "a/../b"}}, "source.s3.prefix"),
        ({"s3": {"bucket": "abc", "endpoint": "https://evil.example"}}, "source.s3.endpoint"),
        ({"s3": {"bucket": "abc", "endpoint": "http://169.254.169.254"}}, "source.s3.endpoint"),
    ):
        answer = await api.client.post(
            "/api/v1/imports", headers=bearer(key), json={"name": "a", "source": source}
        )
        assert (answer.status_code, answer.json().get("param")) == (400, param), answer.text
    assert hub.asked == []


def test_the_operators_token_is_not_shown(settings: Settings) -> None:
    shown = replace(settings, hf_token=TOKEN)
    assert TOKEN not in repr(shown)
    assert TOKEN not in repr(ImportOptions.of(shown))
