"""A deleted adapter is gone from the device, the host and the disk, and whoever is using it is told."""

import json
import time
from pathlib import Path

import pytest

from support.serve import Serve

pytestmark = pytest.mark.e2e


def cached_files(server: Serve) -> set[str]:
    return {file.stem for file in (server.log.parent / "cache").rglob("*.safetensors")}


def test_deleting_an_adapter_purges_every_tier(server: Serve, adapters: list[Path]) -> None:
    tenant = server.tenant("mortal")
    before = cached_files(server)
    time.sleep(1.2)  # the counters are renewed once a second
    resident, on_host = server.counter("adapters_resident"), server.counter("cache_host_entries")
    # Bytes of its own: a file another tenant has too would rightly stay on the disk.
    folder = server.log.parent / "mortal"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((adapters[2] / "adapter_config.json").read_bytes())
    weights = bytearray((adapters[2] / "adapter_model.safetensors").read_bytes())
    weights[-4:] = b"\x00\x00\x80\x3f"  # 1.0
    (folder / "adapter_model.safetensors").write_bytes(weights)
    assert tenant.push("brief", folder).status_code == 201
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


def test_the_engine_view_is_for_operators(server: Serve) -> None:
    tenant = server.tenant("curious")
    assert tenant.http.get("/api/v1/engine").status_code == 403
    state = server.engine()
    assert state["ready"] is True
    assert state["max_model_len"] == 16384
    text = server.operator.get("/metrics").text
    assert 'loraplex_engine_kv_blocks_free{base_model="org/tiny"}' in text
