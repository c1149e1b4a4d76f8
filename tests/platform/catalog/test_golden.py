"""Golden prompts: stored with a version, answered first, then compared, once per life of an engine or when asked."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import select, update

from loraplex.platform.catalog import golden_checks
from loraplex.platform.catalog.golden import read_golden
from loraplex.platform.catalog.golden_checks import LEASE, GoldenChecks
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import (
    AdapterVersion,
    AuditEntry,
    GoldenPrompt,
    LedgerEntry,
    WebhookDelivery,
)
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engines.messages import AdapterState, Description
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.errors import (
    BadRequestError,
    EngineUnavailableError,
    PlatformError,
    UnprocessableError,
)
from loraplex.platform.metering.settlement import RESERVED
from loraplex.platform.settings import Settings
from support.patience import PATIENCE_SECONDS
from support.scripted_engine import FAILS
from support.served import served
from support.services import OPERATOR, Api, adapter_files, bearer

GOLDEN: list[dict[str, object]] = [
    {"prompt": [1], "max_tokens": 3},
    {"prompt": [2], "expected": "two"},
]


class Answers:
    """Gives what it is told to, and counts how often it was asked."""

    def __init__(self, texts: dict[int, str | PlatformError]) -> None:
        self.texts = texts
        self.asked: Counter[int] = Counter()
        self.go = asyncio.Event()
        self.go.set()

    async def greedy(
        self,
        tenant_id: UUID,
        model: str,
        prompt: dict[str, object],
        max_tokens: int,
        payer: str | None = None,
    ) -> str:
        assert payer is None, "what an engine has loaded is checked for nobody"
        number = msgspec.convert(prompt["prompt"], list[int])[0]
        self.asked[number] += 1
        await self.go.wait()
        answer = self.texts[number]
        if isinstance(answer, PlatformError):
            raise answer
        return answer


class Checked:
    """A version with golden prompts, and a worker that checks it."""

    def __init__(self, api: Api, key: str, answers: Answers) -> None:
        self.api, self.key, self.answers = api, key, answers
        self.counted: Counter[str] = Counter()
        self.checks = self.worker()

    def worker(self) -> GoldenChecks:
        def count(base: str, result: str) -> None:
            self.counted[result] += 1

        return GoldenChecks(self.api.database, self.api.engines, self.answers, count)

    async def loaded(self, epoch: str, loads: int = 1) -> None:
        """An engine life in which the version was loaded so often."""
        async with self.api.database.main.reading(EVERY_TENANT) as session:
            version = (await session.scalars(select(AdapterVersion))).one()
        state = AdapterState(f"{version.tenant_id}/{version.digest}", loads=loads)
        self.api.engines.statuses = {"tiny": EngineStatus(ready=True, epoch=epoch)}
        self.api.engines.described = {"tiny": Description(0, [state])}

    async def results(self) -> list[tuple[str | None, str | None]]:
        """Result and expected answer of each prompt."""
        path = "/api/v1/adapters/a/versions/1"
        version = (await self.api.client.get(path, headers=bearer(self.key))).json()
        return [(g["result"], g["expected"]) for g in version["golden"]]

    async def told(self) -> tuple[list[AuditEntry], list[WebhookDelivery]]:
        async with self.api.database.main.reading(EVERY_TENANT) as session:
            entries = select(AuditEntry).where(AuditEntry.action == "golden.fail")
            events = select(WebhookDelivery).where(WebhookDelivery.event == "adapter.golden.failed")
            return list(await session.scalars(entries)), list(await session.scalars(events))


@pytest.fixture
async def checked(api: Api, adapter_dir: Path) -> Checked:
    key = await api.tenant("acme")
    pushed = await api.push(key, adapter_dir, golden=json.dumps(GOLDEN))
    assert pushed.status_code == 201, pushed.text
    return Checked(api, key, Answers({1: "one\0", 2: "two"}))


async def test_a_version_is_checked_once_in_each_engine_life_that_loaded_it(
    checked: Checked,
) -> None:
    await checked.loaded("first", loads=0)
    await checked.checks.sweep()
    assert await checked.results() == [(None, None), (None, "two")]
    await checked.loaded("first")
    for _ in range(2):
        await checked.checks.sweep()
    assert await checked.results() == [("recorded", "one\ufffd"), ("passed", "two")]
    assert checked.answers.asked == {1: 1, 2: 1}
    await checked.loaded("second")
    await asyncio.gather(*(checked.worker().sweep() for _ in range(3)))
    assert checked.answers.asked == {1: 2, 2: 2}, "by one worker"
    assert [result for result, _ in await checked.results()] == ["passed", "passed"]
    assert checked.counted == {"recorded": 1, "passed": 3}
    assert await checked.told() == ([], [])


async def test_checks_go_on_whatever_happens_in_one(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_checks, "LOOK_SECONDS", 0.01)
    ending, sweeps = asyncio.Event(), 0

    async def sweep() -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps > 1:
            ending.set()
        raise ValueError("a template")

    monkeypatch.setattr(checked.checks, "sweep", sweep)
    await checked.checks.run(ending)
    assert sweeps == 2


async def test_a_failure_is_told_when_it_begins(checked: Checked) -> None:
    hook = {"url": "https://hooks.example.com/", "events": ["adapter.golden.failed"]}
    made = await checked.api.client.post(
        "/api/v1/webhooks", json=hook, headers=bearer(await checked.api.tenant("acme", "admin"))
    )
    assert made.status_code == 201, made.text
    checked.answers.texts[2] = "other"
    for epoch in ("first", "second"):
        await checked.loaded(epoch)
        await checked.checks.sweep()
    assert [result for result, _ in await checked.results()] == ["passed", "failed"]
    entries, events = await checked.told()
    assert [(e.actor, e.target, e.detail["failed"]) for e in entries] == [("golden", "a@1", 1)]
    assert len(events) == 1
    told = json.loads(events[0].body)["data"]
    assert told == {"adapter": "a", "version": 1, "failed": 1, "prompts": 2}
    checked.answers.texts[1] = UnprocessableError("No.")
    await checked.loaded("third")
    await checked.checks.sweep()
    assert [result for result, _ in await checked.results()] == ["failed", "failed"]
    assert len((await checked.told())[0]) == 2


async def test_what_could_not_be_asked_is_asked_again_later(checked: Checked) -> None:
    checked.answers.texts[2] = EngineUnavailableError("gone")
    await checked.loaded("first")
    for _ in range(2):
        await checked.checks.sweep()
    assert await checked.results() == [(None, None), (None, "two")]
    assert checked.answers.asked == {1: 1, 2: 1}, "not before the lease is over"
    checked.answers.texts[2] = "two"
    async with checked.api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(GoldenPrompt).values(locked_until=utc_now() - LEASE))
    await checked.checks.sweep()
    assert [result for result, _ in await checked.results()] == ["recorded", "passed"]


async def test_prompts_that_are_replaced_during_a_check_are_not_written_to(
    checked: Checked,
) -> None:
    checked.answers.go.clear()
    await checked.loaded("first")
    sweep = asyncio.create_task(checked.checks.sweep())
    while not checked.answers.asked:  # noqa: ASYNC110 - a counter sets no event
        await asyncio.sleep(0.001)
    path = "/api/v1/adapters/a/versions/1/golden"
    headers = bearer(checked.key)
    busy = await checked.api.client.post(f"{path}/check", headers=headers)
    assert (busy.status_code, busy.json()["code"]) == (409, "golden_check_running")
    body = {"golden": [{"messages": [{"role": "user", "content": "x"}], "expected": ""}]}
    put = await checked.api.client.put(path, json=body, headers=headers)
    assert put.status_code == 200, put.text
    assert put.json()["data"][0]["messages"] == body["golden"][0]["messages"]
    checked.answers.go.set()
    await sweep
    assert await checked.results() == [(None, "")]
    emptied = await checked.api.client.put(path, json={"golden": []}, headers=headers)
    assert emptied.json() == {"data": []}


async def test_checking_on_demand_asks_the_engine_and_counts_as_requests(
    settings: Settings, adapter_dir: Path
) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        files = adapter_files(adapter_dir)
        golden = [
            {"prompt": [5], "max_tokens": 3},
            {"prompt": [6], "max_tokens": 2, "expected": "xy"},
            {"prompt": [FAILS], "expected": "ab"},
        ]
        pushed = await service.http.post(
            "/api/v1/adapters",
            headers=bearer(key),
            data={"name": "a", "golden": json.dumps(golden)},
            files={
                "config": ("adapter_config.json", files["config"]),
                "weights": ("adapter_model.safetensors", files["weights"]),
            },
        )
        assert pushed.status_code == 201, pushed.text

        async def check() -> httpx.Response:
            path = "/api/v1/adapters/a/versions/1/golden/check"
            return await service.http.post(path, headers=bearer(key))

        def results(answer: httpx.Response) -> list[tuple[str, str | None]]:
            assert answer.status_code == 200, answer.text
            return [(g["result"], g["answer"]) for g in answer.json()["data"]]

        assert results(await check()) == [("recorded", "abc"), ("failed", "ab"), ("failed", None)]
        assert results(await check()) == [("passed", "abc"), ("failed", "ab"), ("failed", None)]
        rows = await closed_rows(service.database)
        assert {(row.endpoint, row.key_id, row.adapter) for row in rows} == {
            ("golden", key.split("_")[2], "a")
        }
        assert sorted(row.output_tokens for row in rows) == [0, 0, 2, 2, 3, 3]
        # One more would fit, three do not: then nothing is said of any.
        limit = {"requests_per_minute": len(rows) + 1}
        await service.http.put("/api/v1/tenants/acme/limits", json=limit, headers=bearer(OPERATOR))
        refused = await check()
        assert refused.status_code == 429, refused.text
        assert len(await closed_rows(service.database)) == len(rows) + 1


async def closed_rows(database: Database) -> Sequence[LedgerEntry]:
    """The ledger once nothing runs; settlements are written after the answers."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with database.main.reading(EVERY_TENANT) as session:
                rows = (await session.scalars(select(LedgerEntry))).all()
            if all(row.state != RESERVED for row in rows):
                return rows
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("golden", "param"),
    [
        ([{}], "golden[0]"),
        ([{"prompt": "a"}, {"prompt": ""}], "golden[1].prompt"),
        ([{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}], "golden[0]"),
        ([{"prompt": "a", "max_tokens": 257}], "golden[0].max_tokens"),
        ([{"prompt": "a", "expected": "\0"}], "golden[0].expected"),
        ([{"messages": []}], "golden[0].messages"),
        ([{"messages": [{"role": "user"}]}], "golden[0].messages[0].content"),
        ([{"messages": [{"role": "nobody", "content": ""}]}], "golden[0].messages[0].role"),
        ([{"prompt": "a", "weight": 1}], "golden[0].weight"),
        ([{"prompt": "a"}] * 17, "golden"),
        ([{"prompt": "a" * 70_000}], "golden"),
        ({}, "golden"),
    ],
)
def test_golden_prompts_that_could_not_be_asked(golden: object, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        read_golden(json.dumps(golden).encode())
    assert caught.value.param == param
