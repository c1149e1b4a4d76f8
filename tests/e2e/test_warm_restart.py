"""An orderly stop lets requests end, and what an engine had in memory is there again after the restart, before anybody
asks for it."""

import signal
from pathlib import Path

import pytest

from support.serve import WAIT_SECONDS, Serve, Tenant

pytestmark = pytest.mark.e2e


def stop_with_a_request_in_flight(server: Serve, tenant: Tenant) -> None:
    """SIGTERM in the middle of a stream, which ends as if nothing had happened."""
    body = {"model": server.base, "prompt": "Hello", "max_tokens": 600, "ignore_eos": True}
    lines = []
    with tenant.http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 3:
                server.process.send_signal(signal.SIGTERM)
    assert [line for line in lines if line][-1] == "data: [DONE]"
    assert server.process.wait(WAIT_SECONDS) == 0


def test_the_warm_set_is_on_the_device_again_after_a_restart(
    model: Path, adapters: list[Path], tmp_path: Path
) -> None:
    with Serve(model, tmp_path) as server:
        tenant = server.tenant("acme")
        for number, adapter in enumerate(adapters[:3]):
            assert tenant.push(f"a{number}", adapter).status_code == 201
        answers = {}
        for number in (0, 2):
            answer = tenant.complete(model=f"a{number}", prompt="warm", max_tokens=4, temperature=0)
            assert answer.status_code == 200, answer.text
            answers[number] = answer.json()["choices"][0]["text"]
        key = tenant.key
        stop_with_a_request_in_flight(server, tenant)
    with Serve(model, tmp_path) as server:
        server.wait(lambda: server.counter("adapters_resident") == 2)
        # a1 was never used: it is where it was pushed to.
        server.wait(lambda: server.counter("cache_host_entries") == 2)
        loads = server.counter("cache_loads")
        client = server.client(key)
        for number, text in answers.items():
            body = {"model": f"a{number}", "prompt": "warm", "max_tokens": 4, "temperature": 0}
            answer = client.post("/v1/completions", json=body)
            assert answer.json()["choices"][0]["text"] == text
        assert server.counter("cache_loads") == loads
