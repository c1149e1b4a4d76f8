"""The stream of live state: who sees what of it, and what ends it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from litestar import Litestar

from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.users import new_user
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.drain import Drain
from loraplex.platform.engines.messages import AdapterState, Description, Tier
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.events import feed as feed_module
from loraplex.platform.events.feed import Feed
from support.event_reader import EventReader
from support.services import OPERATOR, Api, bearer, sqlite_only
from support.usage import tenant_id

PATH = "/api/v1/events"
T = TypeVar("T")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "EVERY_SECONDS", 0.01)


def app_of(api: Api) -> Litestar:
    app = api.client._transport.app  # type: ignore[attr-defined]  # of httpx's ASGITransport
    assert isinstance(app, Litestar)
    return app


def service(api: Api, name: str, kind: type[T]) -> T:
    found = app_of(api).state.current.services.by_name[name]
    assert isinstance(found, kind)
    return found


async def test_operators_see_everything_and_a_tenant_its_own(api: Api, adapter_dir: Path) -> None:
    keys = {name: await api.tenant(name) for name in ("acme", "globex")}
    states = []
    for name, key in keys.items():
        digest = (await api.push(key, adapter_dir, f"of-{name}")).json()["digest"]
        whose = await tenant_id(api.database, name)
        states.append(
            AdapterState(f"{whose}/{digest}", Tier.DEVICE, 64, loads=2, running=1, output_tokens=9)
        )
    acme, globex = states
    acme.last_evicted_by = globex.identity
    api.engines.described = {"tiny": Description(0, states)}
    counters = {"running": 2.0, "pages_total": 9.0}
    api.engines.statuses = {"tiny": EngineStatus(True, "epoch", 64, 1.5, counters, "A machine")}
    async with EventReader(app_of(api), PATH, bearer(OPERATOR)) as reader:
        event = await reader.next()
        assert await reader.next() is not None  # and so on
    assert event is not None
    assert event.name == "live"
    assert reader.status == 200
    assert reader.headers["content-type"].startswith("text/event-stream")
    assert reader.headers["x-accel-buffering"] == "no"
    engine = event.data["engines"]["tiny"]  # type: ignore[index]
    assert (engine["device"], engine["counters"], engine["epoch"]) == (
        "A machine",
        counters,
        "epoch",
    )
    assert {adapter["tenant"] for adapter in engine["adapters"]} == {"acme", "globex"}
    assert event.data["recent"] == {}
    assert event.data["http_answers"]["201"] >= 4  # type: ignore[index]

    async with EventReader(app_of(api), PATH, bearer(keys["acme"])) as reader:
        event = await reader.next()
    assert event is not None
    engine = event.data["engines"]["tiny"]  # type: ignore[index]
    assert (engine["device"], engine["epoch"], engine["step_seconds"]) == (None, None, 0.0)
    assert engine["counters"] == {
        "running": 1, "waiting": 0, "adapters_device": 1, "prompt_tokens": 0, "output_tokens": 9,
        "adapter_loads": 2, "adapter_evictions": 0,
    }  # fmt: skip
    (adapter,) = engine["adapters"]
    assert (adapter["adapter"], adapter["last_evicted_by"]) == (
        "of-acme",
        "another tenant's adapter",
    )
    assert event.data["http_answers"] is None
    assert globex.identity.partition("/")[0] not in str(event)
    assert "globex" not in str(event)


@sqlite_only
async def test_thousands_of_adapters_are_summed_up(api: Api) -> None:
    """The busy and the large are named, and nothing is lost in the sums."""
    await api.tenant("acme")
    tenant = await tenant_id(api.database, "acme")
    states = [
        AdapterState(f"{tenant}/{n:064x}", Tier.DEVICE, 1000 + n, running=int(n < 10))
        for n in range(2000)
    ]
    states += [AdapterState(f"{tenant}/{n:064x}", Tier.DISK) for n in range(2000, 3000)]
    api.engines.described = {"tiny": Description(0, states)}
    api.engines.statuses = {"tiny": EngineStatus(True)}
    async with EventReader(app_of(api), PATH, bearer(OPERATOR)) as reader:
        event = await reader.next()
    assert event is not None
    engine = event.data["engines"]["tiny"]  # type: ignore[index]
    listed, others = engine["adapters"], engine["others"]
    assert len(listed) <= 200
    assert sum(one["running"] for one in listed) == 10
    assert max(one["device_bytes"] for one in listed) == 2999
    assert len(listed) + others["adapters"] == 3000
    total = sum(one["device_bytes"] for one in listed) + others["device_bytes"]
    assert total == sum(state.device_bytes for state in states)
    assert engine["tiers"] == {"device": 2000, "disk": 1000}
    assert len(str(event)) < 200_000


@sqlite_only
async def test_it_needs_a_key_that_may_see_adapters_and_usage_for_requests(api: Api) -> None:
    async with EventReader(app_of(api), PATH, bearer(await api.tenant("a", "inference"))) as reader:
        pass
    assert reader.status == 403
    async with EventReader(app_of(api), PATH, bearer(await api.tenant("a", "adapters:read"))) as it:
        event = await it.next()
    assert event is not None
    assert event.data["recent"] is None


async def test_a_stream_ends_with_its_session(api: Api) -> None:
    user = new_user("ann@example.com", "Ann")
    user.is_operator = True
    sessions = service(api, "sessions", Sessions)
    async with api.database.main.writing(EVERY_TENANT) as session:
        session.add(user)
        await session.flush()
        _, token = await sessions.open(session, user, "192.0.2.1", "a browser")
    cookies = {"cookie": f"loraplex={token}"}
    async with EventReader(app_of(api), PATH, cookies) as reader:
        assert await reader.next() is not None
        async with api.database.main.writing(EVERY_TENANT) as session:
            await sessions.end_all(session, user.id)
        sessions.forget()
        last = await reader.last()
    assert (last.name, last.data) == ("end", {"reason": "session"})
    assert service(api, "feed", Feed).streams == 0


@sqlite_only
async def test_a_stream_ends_with_its_key(api: Api) -> None:
    key = await api.tenant("acme")
    listed = await api.client.get("/api/v1/tenants/acme/keys", headers=bearer(OPERATOR))
    (row,) = listed.json()["data"]
    async with EventReader(app_of(api), PATH, bearer(key)) as reader:
        assert await reader.next() is not None
        gone = f"/api/v1/tenants/acme/keys/{row['id']}"
        await api.client.delete(gone, headers=bearer(OPERATOR))
        assert (await reader.last()).data == {"reason": "session"}


@sqlite_only
async def test_streams_end_when_the_server_does(api: Api) -> None:
    drain = service(api, "drain", Drain)
    async with EventReader(app_of(api), PATH, bearer(OPERATOR)) as reader:
        assert await reader.next() is not None
        drain.draining = True
        assert (await reader.last()).data == {"reason": "drain"}
        assert drain.running == 0  # nothing that the worker's end would wait for


@sqlite_only
async def test_streams_are_bounded_and_cost_one_sample_for_all(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MOST_PER_ACTOR", 3)
    feed = service(api, "feed", Feed)
    described = counted(api, monkeypatch)
    readers = [EventReader(app_of(api), PATH, bearer(OPERATOR)) for _ in range(3)]
    for reader in readers:
        await reader.__aenter__()
        assert await reader.next() is not None
    before = described()
    for _ in range(10):
        assert await readers[0].next() is not None
    assert described() - before <= 12  # not three for each
    async with EventReader(app_of(api), PATH, bearer(OPERATOR)) as late:
        pass
    assert late.status == 429
    for reader in readers:
        await reader.__aexit__(None, None, None)
    assert feed.streams == 0


def counted(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often engines were asked to describe themselves."""
    real, calls = api.engines.describe, [0]

    async def describe() -> dict[str, Description]:
        calls[0] += 1
        return await real()

    monkeypatch.setattr(api.engines, "describe", describe)
    return lambda: calls[0]
