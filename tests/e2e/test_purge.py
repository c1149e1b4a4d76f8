"""A deleted adapter is gone from the device, the host and the disk, and whoever is using it is told."""

import json
import time
from functools import partial
from pathlib import Path

import pytest

from support.serve import Serve

pytestmark = pytest.mark.e2e


def cached_files(server: Serve) -> set[str]:
    return {file.stem for file in (server.log.parent / "cache").rglob("*.safetensors")}


def has_files(server: Serve, count: int) -> bool:
    return len(cached_files(server)) == count


def test_deleting_an_adapter_purges_every_tier(server: Serve, adapters: list[Path]) -> None:
    tenant = server.tenant("mortal")
    before = cached_files(server)
    time.sleep(1.2)  # the counters are renewed once a second
    resident, on_host = server.counter("adapters_resident"), server.counter("cache_host_entries")
    assert tenant.push("brief", adapters[2]).status_code == 201
    assert tenant.complete(model="brief", prompt="x", max_tokens=1).status_code == 200
    new = cached_files(server) - before
    assert len(new) == 1
    server.wait(
        lambda: (
            server.counter("adapters_resident") == resident + 1
            and server.counter("cache_host_entries") == on_host + 1
        ),
        10,
    )

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
                deleting = server.client(tenant.key).delete("/api/v1/adapters/brief")
                assert deleting.is_success, deleting.text
                # Done when the answer is there, not some time later.
                assert not cached_files(server) & new
            if line:
                lines.append(line)
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert (error["message"], error["code"]) == (
        "The adapter was deleted while it was in use.",
        "generation_failed",
    )
    assert tenant.complete(model="brief", prompt="x").status_code == 404
    server.wait(
        lambda: (
            server.counter("adapters_resident") == resident
            and server.counter("cache_host_entries") == on_host
        ),
        10,
    )


def test_deleting_reaches_files_of_an_earlier_engine_process(
    model: Path, adapters: list[Path], tmp_path: Path
) -> None:
    with Serve(model, tmp_path / "data") as server:
        tenants = [server.tenant(name) for name in ("one", "two")]
        for tenant in tenants:  # equal files: each tenant has its own copy on the disk
            assert tenant.push("brief", adapters[0]).status_code == 201
            assert tenant.complete(model="brief", prompt="x", max_tokens=1).status_code == 200
        assert len(cached_files(server)) == 2
        server.child("loraplex.platform.engines.worker").kill()
        server.wait(lambda: not server.engine()["ready"], 10)
        server.wait(lambda: bool(server.engine()["ready"]))
        for tenant in tenants:
            before = len(cached_files(server))
            assert tenant.http.delete("/api/v1/adapters/brief").is_success
            server.wait(partial(has_files, server, before - 1), 10)
            tenant.http.close()


def test_the_engine_view(server: Serve) -> None:
    state = server.engine()
    assert state["ready"] is True
    assert state["max_model_len"] == 16384
    text = server.operator.get("/metrics").text
    assert 'loraplex_engine_kv_blocks_free{base_model="org/tiny"}' in text
