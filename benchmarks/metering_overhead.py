"""What keys, limits and the ledger cost a completion: the time they take before the engine gets the request.

The whole app in this process, without sockets, in front of an engine that answers at once, so that nothing but the
service's own work is left. Clients send completions of token ids on the base model and on an adapter, first without
limits, then with limits on tenant, key and adapter. The overhead is the header `x-loraplex-overhead-ms`. Between
two requests a client pauses: without that it would meet the settlement of its own last request each time. On PostgreSQL
the server is on the same machine; with --url a real one.

    PYTHONPATH=tests python benchmarks/metering_overhead.py --requests 500 --clients 1 16
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from results_file import record

from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.db.database import open_database
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.settings import ServedModel, Settings
from support.checkpoints import peft_adapter, tiny_model
from support.postgres import Postgres
from support.served import Served, served
from support.services import OPERATOR, adapter_files, bearer

_LIMITS = {
    "requests_per_minute": 10**6,
    "tokens_per_minute": 10**9,
    "max_concurrent": 10**5,
    "tokens_per_month": 10**12,
}
_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Times:
    """Of many requests, in milliseconds: of the header, and as the client saw them."""

    overhead: list[float]
    whole: list[float]


def main() -> None:
    args = _arguments()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="lpx-") as folder:
        model = tiny_model(Path(folder) / "tiny")
        adapter = peft_adapter(model, Path(folder) / "adapter", rank=8, seed=1)
        for name in args.databases:
            settings = Settings(data_dir=Path(folder) / name, models=(ServedModel(model, "tiny"),))
            if name == "sqlite":
                asyncio.run(measure(args, settings, name, adapter))
                continue
            with _postgres(args.url) as url:
                settings = replace(settings, database_url=url)
                asyncio.run(measure(args, settings, name, adapter))


@contextmanager
def _postgres(url: str | None) -> Iterator[str]:
    """The URL of a database: the given one, else a new one of a server that is started."""
    if url is not None:
        yield url
        return
    server = Postgres(tempfile.mkdtemp(prefix="loraplex-pg-"))
    try:
        yield server.new_database()
    finally:
        server.stop()


async def measure(args: argparse.Namespace, settings: Settings, name: str, adapter: Path) -> None:
    """All cases on one database, each a line of the results."""
    database = open_database(settings)
    await upgrade(database)
    await ensure_operator_key(database, OPERATOR)
    await database.close()
    async with served(settings) as service:
        key = await service.tenant("acme")
        files = adapter_files(adapter)
        pushed = await service.http.post(
            "/api/v1/adapters",
            headers=bearer(key),
            data={"name": "a"},
            files={
                "config": ("adapter_config.json", files["config"]),
                "weights": ("adapter_model.safetensors", files["weights"]),
            },
        )
        assert pushed.status_code == 201, pushed.text
        for case in ("base, no limits", "adapter, no limits", "adapter, limits"):
            if case == "adapter, limits":
                await _limit(service, key)
            which = "tiny" if case.startswith("base") else "a"
            await _run(service, key, which, _WARM_UP, 1, 0.0)
            for clients in args.clients:
                times = await _run(service, key, which, args.requests, clients, args.pause)
                record(
                    "metering_overhead.jsonl",
                    {
                        "benchmark": "metering_overhead",
                        "database": name,
                        "case": case,
                        "clients": clients,
                        "requests": len(times.overhead),
                        "overhead_p50_ms": _quantile(times.overhead, 0.5),
                        "overhead_p99_ms": _quantile(times.overhead, 0.99),
                        "whole_p50_ms": _quantile(times.whole, 0.5),
                        "whole_p99_ms": _quantile(times.whole, 0.99),
                    },
                )


async def _limit(service: Served, key: str) -> None:
    key_id = key.split("_")[2]
    for subject in ("", f"/keys/{key_id}", "/adapters/a"):
        answer = await service.http.put(
            f"/api/v1/tenants/acme/limits{subject}", json=_LIMITS, headers=bearer(OPERATOR)
        )
        assert answer.status_code < 300, answer.text


async def _run(
    service: Served, key: str, model: str, requests: int, clients: int, pause: float
) -> Times:
    times = Times([], [])
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            start = time.perf_counter()
            answer = await service.complete(key, model=model, max_tokens=1)
            times.whole.append(1000 * (time.perf_counter() - start))
            assert answer.status_code == 200, answer.text
            times.overhead.append(float(answer.headers["x-loraplex-overhead-ms"]))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    await asyncio.gather(*(client() for _ in range(clients)))
    return times


def _quantile(values: Sequence[float], part: float) -> float:
    if len(values) < 2:
        return round(values[0], 3)
    return round(
        statistics.quantiles(values, n=1000, method="inclusive")[round(1000 * part) - 1], 3
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500, help="per case and number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--pause", type=float, default=0.05, help="mean, seconds, of each client")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--url", help="of a PostgreSQL database; else one is started")
    return parser.parse_args()


if __name__ == "__main__":
    main()
