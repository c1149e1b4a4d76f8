"""What an engine had in memory is there again after a restart, before anybody asks for it."""

from pathlib import Path

import pytest

from support.serve import Serve

pytestmark = pytest.mark.e2e


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
        assert server.stop() == 0
    with Serve(model, tmp_path) as server:
        server.wait(lambda: server.counter("adapters_resident") == 2, 60)
        # a1 was never used: it is where it was pushed to.
        server.wait(lambda: server.counter("cache_host_entries") == 2, 10)
        loads = server.counter("cache_loads")
        client = server.client(key)
        for number, text in answers.items():
            body = {"model": f"a{number}", "prompt": "warm", "max_tokens": 4, "temperature": 0}
            answer = client.post("/v1/completions", json=body)
            assert answer.json()["choices"][0]["text"] == text
        assert server.counter("cache_loads") == loads
