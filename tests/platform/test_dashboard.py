"""The pages at `/`, as files: which addresses they have, how long browsers keep them, and what they may load. What they
do is tried in tests/web."""

import gzip
from pathlib import Path

import pytest

from loraplex.platform.dashboard import Dashboard
from loraplex.platform.errors import NotFoundError
from support.services import Api, sqlite_only

SCRIPT = b"console.log(1);" * 100


@pytest.fixture
def built(tmp_path: Path) -> Dashboard:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<script src=/assets/a.js></script>")
    (tmp_path / "dist" / "assets" / "a.js").write_bytes(SCRIPT)
    return Dashboard(tmp_path)


def test_the_document_is_never_kept_and_loads_only_from_here(built: Dashboard) -> None:
    page = built.page()
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy


def test_assets_are_kept_for_good_and_come_compressed(built: Dashboard) -> None:
    plain, packed = built.asset("a.js", False), built.asset("a.js", True)
    assert plain.content == SCRIPT
    assert gzip.decompress(packed.content) == SCRIPT
    assert "immutable" in packed.headers["cache-control"]
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("name", ["b.js", "../index.html", "..", ""])
def test_nothing_else_is_read(built: Dashboard, name: str) -> None:
    with pytest.raises(NotFoundError):
        built.asset(name, False)


def test_without_a_build_there_is_a_plain_page_without_scripts(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").write_text("plain")
    page = Dashboard(tmp_path).page()
    assert page.content == b"plain"
    assert "script-src" not in page.headers["content-security-policy"]


@sqlite_only
async def test_only_pages_answer_with_the_document(api: Api) -> None:
    for path in ("/", "/adapters", "/adapters/a.b", "/sign-in"):
        answer = await api.client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/html"), path
    for path in ("/api/none", "/api/v1/none", "/v1/none", "/t/a/v1/none", "/none"):
        answer = await api.client.get(path)
        assert answer.status_code in (401, 404), path
        assert "html" not in answer.headers["content-type"], path
    assert (await api.client.get("/assets/none.js")).status_code == 404


@sqlite_only
async def test_adapters_are_found_by_a_part_of_their_name(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    headers = {"authorization": f"Bearer {key}"}
    for name in ("Poems", "po_ets", "poXets"):
        assert (await api.push(key, adapter_dir, name)).status_code == 201

    async def found(**query: str) -> list[str]:
        answer = await api.client.get("/api/v1/adapters", params=query, headers=headers)
        return [row["name"] for row in answer.json()["data"]]

    assert await found(search="POE") == ["Poems"]
    assert await found(search="o_e") == ["po_ets"]  # no pattern
    assert await found(search="ets", after="poXets") == ["po_ets"]
    assert await found(search="%") == []


@sqlite_only
async def test_the_playground_is_for_members(api: Api) -> None:
    await api.tenant("acme")
    by_key = {"authorization": f"Bearer {await api.tenant('acme')}"}
    for route in ("completions", "chat/completions"):
        refused = await api.client.post(f"/api/v1/playground/{route}", json={}, headers=by_key)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
