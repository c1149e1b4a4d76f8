"""A deleted adapter is gone from the device, the host and the disk, and whoever is using it is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serve import Serve

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def own(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server of this file alone, where nobody else loads adapters, with one that stays."""
    with Serve(model, tmp_path_factory.mktemp("own")) as serve:
        yield serve


@pytest.fixture(scope="module")
def staying(own: Serve, adapters: list[Path]) -> set[str]:
    """The file of an adapter that nobody deletes."""
    tenant = own.tenant("staying")
    assert tenant.push("long", adapters[1]).status_code == 201
    assert tenant.complete(model="long", prompt="x", max_tokens=1).status_code == 200
    return new_files(own, set(), 1)


def cached_files(server: Serve) -> set[str]:
    return {file.stem for file in (server.log.parent / "cache").rglob("*.safetensors")}


def new_files(server: Serve, before: set[str], count: int) -> set[str]:
    """Those beside `before`; a file is written behind the request's back."""
    server.wait(lambda: len(cached_files(server) - before) == count)
    return cached_files(server) - before


def wait_loaded(server: Serve, count: int) -> None:
    """Until the engine says that so many adapters are on the device and on the host."""
    names = ("adapters_resident", "cache_host_entries")
    server.wait(lambda: all(server.counter(name) == count for name in names))


def test_deleting_an_adapter_purges_every_tier(
    own: Serve, staying: set[str], adapters: list[Path]
) -> None:
    tenant = own.tenant("mortal")
    wait_loaded(own, 1)
    assert tenant.push("brief", adapters[2]).status_code == 201
    assert tenant.complete(model="brief", prompt="x", max_tokens=1).status_code == 200
    new = new_files(own, staying, 1)
    wait_loaded(own, 2)

    body = {
        "model": "brief",
        "prompt": "x",
        "max_tokens": 16000,
        "ignore_eos": True,
        "stream": True,
    }
    lines: list[str] = []
    with tenant.http.stream("POST", "/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if not lines:
                deleting = own.client(tenant.key).delete("/api/v1/adapters/brief")
                assert deleting.is_success, deleting.text
                # Done when the answer is there, not some time later.
                assert not cached_files(own) & new
            if line:
                lines.append(line)
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert (error["message"], error["code"]) == (
        "The adapter was deleted while it was in use.",
        "generation_failed",
    )
    assert tenant.complete(model="brief", prompt="x").status_code == 404
    wait_loaded(own, 1)
    assert cached_files(own) == staying


def test_deleting_reaches_files_of_an_earlier_engine_process(
    own: Serve, staying: set[str], adapters: list[Path]
) -> None:
    tenants = [own.tenant(name) for name in ("one", "two")]
    for tenant in tenants:  # equal files: each tenant has its own copy on the disk
        assert tenant.push("brief", adapters[0]).status_code == 201
        assert tenant.complete(model="brief", prompt="x", max_tokens=1).status_code == 200
    new_files(own, staying, 2)
    before = own.engine()["epoch"]
    own.kill("loraplex.platform.engines.worker")
    own.wait(lambda: own.engine()["epoch"] != before and bool(own.engine()["ready"]))
    for left, tenant in zip((1, 0), tenants, strict=True):
        assert tenant.http.delete("/api/v1/adapters/brief").is_success
        new_files(own, staying, left)


def test_the_engine_view(server: Serve) -> None:
    state = server.engine()
    assert state["ready"] is True
    assert state["max_model_len"] == 16384
    text = server.operator.get("/metrics").text
    assert 'loraplex_engine_kv_blocks_free{base_model="org/tiny"}' in text
