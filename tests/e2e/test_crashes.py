"""Processes killed at random moments under load: the ledger equals the tokens handed over, row by row, versions of
adapters are whole or absent, and names mean what they meant.

API workers also die several at a time. Half of the time the next victim dies before what the last one left was written
down: engine and API worker of one answer then die together.
"""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from sqlalchemy import func, select

from loraplex.engine.model_config import ModelConfig
from loraplex.platform.db.database import Database, open_database
from loraplex.platform.db.models import ApiWorker, LedgerEntry, Meter, UsageRollup
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.settlement import RESERVED
from loraplex.platform.settings import Settings
from support.adapter_files import config_json, lora_tensors, weights_bytes
from support.crash_load import Publisher, Received, Streams
from support.postgres import Postgres, postgres
from support.serve import Serve, Tenant

__all__ = ["postgres"]  # a fixture, found here by pytest

pytestmark = pytest.mark.e2e

ENGINE = "loraplex.platform.engines.worker"
API = "loraplex.platform.api_worker"
Victim = Literal["worker", "engine", "database"]
CLIENTS = 6
# The pause before a restart doubles with each kill; a new `serve` begins with short ones, and shows that names survive.
ROUNDS_OF_ONE_SERVE = 8
# Tokens that were on their way when a worker died: what an engine writes while a busy worker does not get to read.
IN_FLIGHT = 1000
# Part of the kills whose rows the next kill waits for.
WAITED_FOR = 0.5
SETTLED_SECONDS = 240.0


class Crashes:
    """One database and one data directory over several lives of `serve`."""

    def __init__(
        self,
        model: Path,
        data_dir: Path,
        database: Postgres | None,
        seed: int,
        workers: int = 2,
        at_once: int = 1,
    ) -> None:
        """`workers` serve, of which up to `at_once` are killed together: what takes time is what comes after a kill."""
        self.killed: Counter[str] = Counter()
        self.received: list[Received] = []
        self.surplus: list[int] = []
        self._model = model
        self._data_dir = data_dir
        self._postgres = database
        self._rng = random.Random(seed)
        self._workers, self._at_once = workers, at_once
        self._url = "" if database is None else database.new_database()
        self._key = ""
        self._publisher: Publisher | None = None
        self._victims: list[Victim] = []
        config = ModelConfig.from_directory(model)
        self._modules = [m for m in config.modules() if m.index < config.embedding_module]

    async def run(self, kills: int) -> None:
        """Kill so often, and look at what is left after each life."""
        settings = Settings(data_dir=self._data_dir, database_url=self._url)
        database = open_database(settings)
        try:
            while self.killed.total() < kills:
                await self._life(database, kills)
        finally:
            await database.close()

    def content(self, number: int) -> dict[str, bytes]:
        """The files of a version like no other."""
        return {
            "config": config_json(target_modules=[module.name for module in self._modules]),
            "weights": weights_bytes(lora_tensors(self._modules, seed=number)),
        }

    async def _life(self, database: Database, kills: int) -> None:
        options = ["--api-workers", str(self._workers), "--max-num-seqs", "16"]
        if self._url:
            options += ["--database-url", self._url]
        serve = Serve(self._model, self._data_dir, *options)
        await asyncio.to_thread(serve.__enter__)
        try:
            tenant = self._tenant(serve)
            publisher = self._publisher = self._publisher or Publisher(
                serve.url, self._key, self.content, first=1
            )
            publisher.url = serve.url
            self._check_versions(tenant, publisher)
            streams = Streams(
                serve.url, self._key, [serve.base, publisher.name], self._rng.randrange(2**32)
            )
            work = [asyncio.create_task(streams.run(CLIENTS)), asyncio.create_task(publisher.run())]
            await self._until(lambda: _some(streams.received), "streams")
            for _ in range(ROUNDS_OF_ONE_SERVE):
                if self.killed.total() >= kills:
                    break
                # Mostly while answers flow, sometimes while those killed before are still starting.
                if self._rng.random() < 0.75:
                    began = len(streams.received)
                    await self._until(lambda: _some(streams.received[began:]), "streams to go on")  # noqa: B023 - at once
                await asyncio.sleep(self._rng.uniform(0, 0.6))
                await self._kill(serve, database, streams, kills - self.killed.total())
            streams.stopping = publisher.stopping = True
            await asyncio.gather(*work)
            await self._settled(database)
            await self._check_ledger(database, streams.received)
            assert publisher.wrong == []
            await self._until(lambda: _is_up(serve, self._workers), "everything to be back")
            self._check_versions(self._tenant(serve), publisher)
            self.received += streams.received
        except BaseException:
            print(serve.output()[-8000:])
            raise
        finally:
            assert await asyncio.to_thread(serve.stop) == 0

    def _tenant(self, serve: Serve) -> Tenant:
        if not self._key:
            tenant = serve.tenant("acme")
            self._key = tenant.key
            files = self.content(0)
            # Streams ask for it from the beginning.
            serve.client(self._key).post(
                "/api/v1/adapters",
                data={"name": Publisher.name},
                files={
                    "config": ("adapter_config.json", files["config"]),
                    "weights": ("adapter_model.safetensors", files["weights"]),
                },
            ).raise_for_status()
            limits = serve.operator.put(
                "/api/v1/tenants/acme/limits", json={"max_concurrent": 100_000}
            )
            limits.raise_for_status()
            return tenant
        return Tenant(serve, "acme", self._key)

    async def _kill(self, serve: Serve, database: Database, streams: Streams, most: int) -> None:
        kind, started, count = self._next_victim(), time.monotonic(), 1
        if kind == "database":
            assert self._postgres is not None
            await asyncio.to_thread(self._postgres.kill)
            await asyncio.sleep(self._rng.uniform(0, 1))
            await asyncio.to_thread(self._postgres.restart)
        else:
            module = API if kind == "worker" else ENGINE
            await self._until(lambda: _now(_children(serve, module)), f"a {kind}")
            together = self._rng.randint(1, self._at_once) if kind == "worker" else 1
            found = _children(serve, module)
            victims = self._rng.sample(found, min(together, len(found), most))
            workers = await _workers(database, [victim.pid for victim in victims])
            for victim in victims:
                victim.send_signal(signal.SIGKILL)
            count = len(victims)
            ended = [r.answer_id for r in streams.received if r.end in ("done", "error")]

            async def written_down() -> bool:
                """Nothing is known to the engine, or to this worker, alone."""
                return not await _reserved(database, workers, ended)

            if self._rng.random() < WAITED_FOR:
                await self._until(written_down, f"rows after the end of a {kind}")
        self.killed[kind] += count
        print(
            f"{self.killed.total()}: {count} {kind}, {len(streams.received)} streams, "
            f"{time.monotonic() - started:.1f} s",
            flush=True,
        )

    def _next_victim(self) -> Victim:
        """All kinds come equally often, API workers twice so."""
        if not self._victims:
            self._victims = ["worker", "worker", "engine"]
            if self._postgres is not None:
                self._victims.append("database")
            self._rng.shuffle(self._victims)
        return self._victims.pop()

    async def _settled(self, database: Database) -> None:
        async def all_closed() -> bool:
            async with database.main.reading(EVERY_TENANT) as session:
                query = select(func.count()).where(LedgerEntry.state == RESERVED)
                return not await session.scalar(query)

        await self._until(all_closed, "every row to be closed")

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(SETTLED_SECONDS):
                while not await condition():  # noqa: ASYNC110 - other processes set no events
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"waited {SETTLED_SECONDS} s for {what}") from None

    async def _check_ledger(self, database: Database, streams: Sequence[Received]) -> None:
        async with database.main.reading(EVERY_TENANT) as session:
            rows = list(await session.scalars(select(LedgerEntry)))
            meters = list(await session.scalars(select(Meter)))
            rollups = list(await session.scalars(select(UsageRollup)))
        by_answer = {row.answer_id: row for row in rows}
        assert len(by_answer) == len(rows), "an answer has two rows"
        for one in streams:
            if not one.answer_id:
                continue
            assert one.answer_id in by_answer, one
            row = by_answer[one.answer_id]
            story = (one, row.state, row.finish_reason, row.output_tokens)
            if one.end == "done":
                assert row.output_tokens == one.tokens == one.max_tokens, story
            elif one.end == "error":
                assert row.output_tokens == one.tokens, story
            else:
                assert one.tokens <= row.output_tokens <= one.tokens + IN_FLIGHT, story
                self.surplus.append(row.output_tokens - one.tokens)
        assert [meter.running for meter in meters] == [0]
        expected = (
            len(rows),
            sum(row.prompt_tokens for row in rows),
            sum(row.cached_tokens for row in rows),
            sum(row.output_tokens for row in rows),
        )
        for unit in "mhd":
            own = [rollup for rollup in rollups if rollup.unit == unit]
            assert expected == (
                sum(rollup.requests for rollup in own),
                sum(rollup.prompt_tokens for rollup in own),
                sum(rollup.cached_tokens for rollup in own),
                sum(rollup.output_tokens for rollup in own),
            ), unit

    def _check_versions(self, tenant: Tenant, publisher: Publisher) -> None:
        answer = tenant.http.get(f"/api/v1/adapters/{publisher.name}")
        answer.raise_for_status()
        adapter = answer.json()
        found = {version["version"]: version for version in adapter["versions"]}
        for number, digest in publisher.pushed.items():
            assert found[number]["weights_sha256"] == digest
        for number, version in found.items():
            assert version["state"] == "ready"
            assert number == 1 or version["weights_sha256"] in publisher.sent
        aliases = {alias["alias"]: alias["version"] for alias in adapter["aliases"]}
        if publisher.may_be_prod:
            assert aliases.get("prod") in {*publisher.may_be_prod, None}
            assert "prod" in aliases or publisher.may_be_prod == set(publisher.pushed)
            publisher.may_be_prod &= {aliases.get("prod", -1)}
        # Its weights are all there.
        for number in sorted(found)[-2:]:
            done = tenant.complete(model=f"{publisher.name}@{number}", prompt="x", max_tokens=1)
            assert done.status_code == 200, done.text


async def _now(found: Sequence[object]) -> bool:
    return bool(found)


async def _is_up(serve: Serve, workers: int) -> bool:
    """All children are there, the engine takes requests, and each API worker answers."""
    if len(_children(serve, API)) < workers:
        return False
    async with httpx.AsyncClient(base_url=serve.url, timeout=5, trust_env=False) as client:
        try:
            # Among the listening sockets chance decides; over so many it is all but sure to meet each.
            answers = [
                await client.get("/ready", headers={"connection": "close"})
                for _ in range(8 * workers)
            ]
        except httpx.TransportError:
            return False
    return all(answer.status_code == 200 for answer in answers)


async def _some(received: Sequence[Received]) -> bool:
    return any(one.tokens for one in received)


def _children(serve: Serve, module: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(serve.process.pid).children():
        try:
            if module in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


async def _workers(database: Database, pids: Sequence[int]) -> list[object]:
    async with database.main.reading(EVERY_TENANT) as session:
        return list(await session.scalars(select(ApiWorker.id).where(ApiWorker.pid.in_(pids))))


async def _reserved(database: Database, workers: Sequence[object], answers: Sequence[str]) -> int:
    """Rows of these workers and answers that are not closed."""
    async with database.main.reading(EVERY_TENANT) as session:
        query = select(LedgerEntry.worker_id, LedgerEntry.answer_id)
        rows = (await session.execute(query.where(LedgerEntry.state == RESERVED))).all()
    known = set(answers)
    return sum(worker in workers or answer in known for worker, answer in rows)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that may be killed."""
    server = Postgres(tempfile.mkdtemp(prefix="loraplex-pg-"), survives_kills=True)
    yield server
    server.restart()
    server.stop()


def report(crashes: Crashes) -> None:
    ends = Counter(one.end for one in crashes.received)
    surplus = max(crashes.surplus, default=0)
    print(
        f"killed {dict(crashes.killed)}; streams {dict(ends)}; most tokens on their way {surplus}"
    )


async def test_a_few_kills_on_sqlite(model: Path, tmp_path: Path) -> None:
    crashes = Crashes(model, tmp_path / "data", None, seed=1)
    await crashes.run(3)
    report(crashes)
    assert crashes.killed == {"worker": 2, "engine": 1}


async def test_a_few_kills_on_postgres(model: Path, tmp_path: Path, own_postgres: Postgres) -> None:
    crashes = Crashes(model, tmp_path / "data", own_postgres, seed=5)
    await crashes.run(4)
    report(crashes)
    assert crashes.killed == {"worker": 2, "engine": 1, "database": 1}


@pytest.mark.soak
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_many_kills(
    model: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    kills = int(os.environ.get("LORAPLEX_CRASH_KILLS", "200"))
    database = request.getfixturevalue("own_postgres") if kind == "postgres" else None
    crashes = Crashes(model, tmp_path / "data", database, seed=7, workers=4, at_once=3)
    await crashes.run(kills)
    report(crashes)
    assert crashes.killed.total() == kills
