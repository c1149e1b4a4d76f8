"""Imports from a directory of the server: operators only, and nothing outside of it."""

import os
import shutil
from pathlib import Path

from loraplex.platform.settings import Settings
from support.services import OPERATOR, Api, bearer


async def test_only_operators_and_only_what_is_offered(
    api: Api, settings: Settings, adapter_dir: Path, tmp_path: Path
) -> None:
    key = await api.tenant("acme")
    offered = settings.import_dir
    assert offered is not None
    shutil.copytree(adapter_dir, offered / "team" / "lora")
    outside = shutil.copytree(adapter_dir, tmp_path / "outside")
    (offered / "link").symlink_to(outside)
    (offered / "files").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (offered / "files" / name).symlink_to(outside / name)
    (offered / "pipe").mkdir()
    shutil.copy(adapter_dir / "adapter_config.json", offered / "pipe")
    os.mkfifo(offered / "pipe" / "adapter_model.safetensors")

    wish = {"name": "a", "source": {"path": "team/lora"}}
    refused = await api.client.post("/api/v1/imports", headers=bearer(key), json=wish)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")

    for path in ("team/lora", str(offered / "team" / "lora")):
        job = await _as_operator(api, path)
        assert (job["state"], job["error"]) == ("succeeded", None)
    for path in (
        "../outside",
        "team/../../outside",
        str(outside),
        "/etc",
        "link",
        "files",
        "pipe",
        "absent",
        "team",
    ):
        job = await _as_operator(api, path)
        assert job["state"] == "failed", path
        assert "--import-dir" in str(job["error"]) or "has no adapter" in str(job["error"])
        assert str(outside) not in str(job["error"]).replace(path, "")


async def _as_operator(api: Api, path: str) -> dict[str, object]:
    answer = await api.client.post(
        "/api/v1/imports?tenant=acme",
        headers=bearer(OPERATOR),
        json={"name": "a", "source": {"path": path}},
    )
    assert answer.status_code == 202, answer.text
    return await _ended(api, answer.json()["id"])


async def _ended(api: Api, job: str) -> dict[str, object]:
    while True:
        answer = await api.client.get(f"/api/v1/jobs/{job}?tenant=acme", headers=bearer(OPERATOR))
        found: dict[str, object] = answer.json()
        if found["state"] in ("succeeded", "failed"):
            return found
