"""Who sees what of the engines: operators everything, a tenant its own."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from loraplex.adapters.cache import CacheStats
from loraplex.engine.engine import EngineStats
from loraplex.platform import metrics as metrics_module
from loraplex.platform.engines.messages import AdapterState, Description, Tier, Traffic
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.metrics import Metrics
from loraplex.platform.residency.names import AdapterName
from support.services import OPERATOR, Api, bearer, sqlite_only


async def pushed(api: Api, adapter: Path, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Tenants that each push the same files: key and the engine's identity of the adapter, by tenant."""
    found = {}
    for name in names:
        key = await api.tenant(name)
        digest = (await api.push(key, adapter, f"of-{name}")).json()["digest"]
        tenants = (await api.client.get("/api/v1/tenants", headers=bearer(OPERATOR))).json()["data"]
        tenant_id = next(t["id"] for t in tenants if t["name"] == name)
        found[name] = (key, f"{tenant_id}/{digest}")
    return found


async def test_a_tenant_sees_its_own_adapters_and_nothing_of_others(
    api: Api, adapter_dir: Path
) -> None:
    tenants = await pushed(api, adapter_dir, ("acme", "globex"))
    (acme, of_acme), (_, of_globex) = tenants["acme"], tenants["globex"]
    api.engines.described = {
        "tiny": Description(
            0,
            [
                AdapterState(
                    of_acme,
                    Tier.HOST,
                    host_bytes=5,
                    loads=2,
                    load_seconds=0.5,
                    evictions=2,
                    last_evicted_by=of_globex,
                    waiting=3,
                    requests=7,
                ),
                AdapterState(of_globex, Tier.DEVICE, 99, last_evicted_by=of_acme, running=4),
            ],
        )
    }
    api.engines.statuses = {"tiny": EngineStatus(True, "epoch", 64, 1.5, {"running": 4.0})}
    own = await api.client.get("/api/v1/engine", headers=bearer(acme))
    assert own.status_code == 200
    engine = own.json()["tiny"]
    (adapter,) = engine.pop("adapters")
    assert engine == {
        "ready": True,
        "epoch": None,
        "max_model_len": 64,
        "step_seconds": 0.0,
        "counters": {"running": 0.0, "waiting": 3.0, "adapters_host": 1.0},
    }
    assert (adapter["tenant"], adapter["adapter"], adapter["version"]) == ("acme", "of-acme", 1)
    assert (adapter["tier"], adapter["waiting"], adapter["requests"]) == ("host", 3, 7)
    assert adapter["last_evicted_by"] == "another tenant's adapter"
    assert "globex" not in own.text
    assert of_globex.split("/")[0] not in own.text

    everything = await api.client.get("/api/v1/engine", headers=bearer(OPERATOR))
    engine = everything.json()["tiny"]
    assert (engine["epoch"], engine["counters"]) == ("epoch", {"running": 4.0})
    assert [(a["tenant"], a["last_evicted_by"]) for a in engine["adapters"]] == [
        ("globex", "acme/of-acme@1"),  # the busiest first
        ("acme", "globex/of-globex@1"),
    ]


@sqlite_only
async def test_the_engine_view_needs_a_key_that_may_see_adapters(api: Api) -> None:
    key = await api.tenant("acme", "inference")
    assert (await api.client.get("/api/v1/engine", headers=bearer(key))).status_code == 403


@sqlite_only
async def test_an_engine_that_is_down_is_listed_without_adapters(api: Api) -> None:
    api.engines.statuses = {"tiny": EngineStatus(ready=False)}
    answer = await api.client.get("/api/v1/engine", headers=bearer(OPERATOR))
    assert json.loads(answer.text)["tiny"]["adapters"] == []


def test_every_counter_is_a_number_of_engines() -> None:
    names = {field.name for field in dataclasses.fields(EngineStats)}
    names |= {f"cache_{field.name}" for field in dataclasses.fields(CacheStats)}
    assert names >= metrics_module.COUNTED


def test_metrics_have_their_types_and_name_few_adapters() -> None:
    numbers = {"tiny": {"steps": 9.0, "running": 2.0}}
    metrics = Metrics(lambda: numbers)
    described = {
        "tiny": Description(
            0,
            [
                AdapterState("t/a", Tier.DEVICE, 7, 5, 3, running=1, series=Traffic(2, 30, 40)),
                AdapterState("t/b", Tier.HOST, 0, 6, 4, waiting=2),
                # Deleted a moment ago, so that it has no name any more.
                AdapterState("t/c", Tier.DISK, 0, 0, 1, waiting=1, series=Traffic(1, 1, 1)),
            ],
            Traffic(5, 50, 60),
        )
    }
    names = {"t/a": AdapterName("acme", "fox", 3), "t/b": AdapterName("acme", "owl", 1)}
    lines = metrics.render(described, names).decode().splitlines()
    assert "# TYPE loraplex_engine_steps_total counter" in lines
    assert 'loraplex_engine_steps_total{base_model="tiny"} 9.0' in lines
    assert "# TYPE loraplex_engine_running gauge" in lines
    assert "# TYPE loraplex_time_to_first_token_seconds histogram" in lines
    for tier, count in (("device", 1), ("host", 1), ("disk", 1), ("loading", 0)):
        assert f'loraplex_adapters{{base_model="tiny",tier="{tier}"}} {count}.0' in lines
    for tier, size in (("device", 7), ("host", 11), ("disk", 8)):
        assert f'loraplex_adapter_bytes{{base_model="tiny",tier="{tier}"}} {size}.0' in lines
    fox = '{adapter="fox",base_model="tiny",tenant="acme",version="3"}'
    other = '{adapter="other",base_model="tiny",tenant="",version=""}'
    assert f"loraplex_adapter_output_tokens_total{fox} 40.0" in lines
    assert f"loraplex_adapter_output_tokens_total{other} 60.0" in lines
    assert f"loraplex_adapter_running{fox} 1.0" in lines
    assert f"loraplex_adapter_waiting{other} 3.0" in lines
    assert not any("owl" in line for line in lines)
