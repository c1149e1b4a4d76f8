"""Clients that leave: the engine stops working for them at once, whatever they were waiting for."""

import asyncio
import json
import random
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from support.patience import PATIENCE_SECONDS
from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

# Steps of the tiny model take milliseconds: to its end this would run for most of a minute.
ENDLESS_TOKENS = 16000
ENDLESS = {"prompt": "Hello", "max_tokens": ENDLESS_TOKENS, "ignore_eos": True}


@pytest.fixture(autouse=True)
def _idle_before_and_after(server: Serve) -> object:
    """Whatever the clients have left ends, and does so before its own end."""
    server.wait(server.is_idle)
    written = server.counter("output_tokens")
    yield
    server.wait(server.is_idle)
    assert server.counter("output_tokens") < written + ENDLESS_TOKENS


def raw_request(tenant: Tenant, body: dict[str, object]) -> socket.socket:
    """Send a completion request and return the connection without reading anything."""
    address = urlsplit(tenant.url)
    assert address.hostname is not None
    assert address.port is not None
    data = json.dumps({"model": tenant.base, **body}).encode()
    connection = socket.create_connection((address.hostname, address.port))
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


def wait_running(server: Serve, count: int) -> None:
    server.wait(lambda: server.counter("running") == count)


def assert_freed(server: Serve, free_blocks: float) -> None:
    """The generation has ended, and holds nothing."""
    server.wait(server.is_idle)
    assert server.counter("kv_blocks_free") == free_blocks


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_in_the_middle(server: Serve, acme: Tenant, stream: bool) -> None:
    free = server.counter("kv_blocks_free")
    connection = raw_request(acme, {**ENDLESS, "stream": stream})
    wait_running(server, 1)
    assert server.counter("kv_blocks_free") < free
    connection.close()
    assert_freed(server, free)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"n": 4, "stream": True}, 4),
        ({"prompt": ["a", "b"], "n": 2, "stream": True}, 4),
        ({"prompt": ["a", "b", "c"], "echo": True, "logprobs": 1}, 3),
        ({"best_of": 5}, 5),
    ],
    ids=["n", "batch with n", "batch with echo", "best_of"],
)
def test_leaving_stops_every_answer(
    server: Serve, acme: Tenant, body: dict[str, object], count: int
) -> None:
    free = server.counter("kv_blocks_free")
    connection = raw_request(acme, {**ENDLESS, **body})
    wait_running(server, count)
    connection.close()
    assert_freed(server, free)


def test_leaving_while_others_have_their_turn(server: Serve, acme: Tenant) -> None:
    """The server takes 32 sequences at a time."""
    free = server.counter("kv_blocks_free")
    first = raw_request(acme, {**ENDLESS, "n": 32})
    wait_running(server, 32)
    second = raw_request(acme, {**ENDLESS, "prompt": ["a", "b"], "n": 2, "stream": True})
    server.wait(lambda: server.counter("waiting") == 4)
    second.close()
    server.wait(lambda: server.counter("waiting") == 0)
    assert server.counter("running") == 32
    first.close()
    assert_freed(server, free)


def test_leaving_without_having_read_the_headers(server: Serve, acme: Tenant) -> None:
    for _ in range(20):
        raw_request(acme, {**ENDLESS, "stream": True}).close()
    server.wait(server.is_idle)


def test_a_reader_that_stops_reading_and_then_leaves(server: Serve, acme: Tenant) -> None:
    """Its buffers fill, so the server is blocked in sending when the connection breaks."""
    free = server.counter("kv_blocks_free")
    connection = raw_request(acme, {**ENDLESS, "stream": True, "logprobs": 5, "n": 8})
    wait_running(server, 8)
    time.sleep(4)
    assert acme.complete(prompt="x", max_tokens=4).status_code == 200  # nobody else is held up
    assert server.counter("running") == 8
    connection.close()
    assert_freed(server, free)


async def test_many_streams_with_random_departures(
    server: Serve, acme: Tenant, globex: Tenant
) -> None:
    chance = random.Random(5)
    models = [(acme, "org/tiny"), (acme, "zero"), (acme, "one"), (globex, "two"), (globex, "three")]
    reference = {
        (tenant.name, model): tenant.complete(
            model=model, prompt="Hello", temperature=0, max_tokens=40
        ).json()
        for tenant, model in models
    }

    async def stream(
        client: httpx.AsyncClient, tenant: Tenant, model: str, leave_after: int | None
    ) -> bool:
        body = {
            "model": model,
            "prompt": "Hello",
            "temperature": 0,
            "max_tokens": 40,
            "stream": True,
        }
        headers = {"authorization": f"Bearer {tenant.key}"}
        text, frames = "", 0
        async with client.stream(
            "POST", f"{tenant.url}/v1/completions", json=body, headers=headers
        ) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    break
                if line.startswith("data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
                    frames += 1
                    if frames == leave_after:
                        return False
        assert text == reference[tenant.name, model]["choices"][0]["text"]
        return True

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        timeout=PATIENCE_SECONDS, trust_env=False, limits=limits
    ) as client:
        plans = [
            (*chance.choice(models), chance.choice([None, 1, chance.randrange(1, 30)]))
            for _ in range(64)
        ]
        done = await asyncio.gather(*(stream(client, *plan) for plan in plans))
    assert done.count(True) >= sum(plan[2] is None for plan in plans)
    assert "starting it again" not in server.output()
