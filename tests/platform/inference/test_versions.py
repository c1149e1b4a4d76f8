"""Which version answers a request and with which parameters, over HTTP: splits by user, defaults of the version."""

import asyncio
import json
from pathlib import Path

from loraplex.platform.metering.settlement import SETTLED
from loraplex.platform.settings import Settings
from support.meters import entries
from support.served import Served, served
from support.services import adapter_files, bearer


async def push(service: Served, key: str, folder: Path, defaults: dict[str, object]) -> None:
    files = adapter_files(folder)
    pushed = await service.http.post(
        "/api/v1/adapters",
        headers=bearer(key),
        data={"name": "a", "defaults": json.dumps(defaults)},
        files={
            "config": ("adapter_config.json", files["config"]),
            "weights": ("adapter_model.safetensors", files["weights"]),
        },
    )
    assert pushed.status_code == 201, pushed.text


async def test_a_user_keeps_a_version_of_a_split_and_gets_its_defaults(
    settings: Settings, adapter_dir: Path
) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        for tokens in (1, 2):  # so that the length of an answer tells which version gave it
            await push(service, key, adapter_dir, {"max_tokens": tokens})
        split = await service.http.put(
            "/api/v1/adapters/a/aliases/prod",
            json={"split": {"1": 1, "2": 1}},
            headers=bearer(key),
        )
        assert split.status_code == 200, split.text

        async def length(**body: object) -> int:
            answer = await service.complete(key, model="a", **body)
            assert answer.status_code == 200, answer.text
            tokens = answer.json()["usage"]["completion_tokens"]
            assert "max_tokens" in body or answer.headers["x-loraplex-version"] == f"a@{tokens}"
            return int(answer.json()["usage"]["completion_tokens"])

        users = [f"user-{n}" for n in range(24)]  # all of one version: once in 8 million runs
        met = [await length(user=user) for user in users]
        assert set(met) == {1, 2}
        assert met[:8] == [await length(user=user, max_tokens=None) for user in users[:8]]
        assert await length(user=users[0], max_tokens=5) == 5
        while sum(row.state == SETTLED for row in await entries(service.database)) < 33:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        rows = await entries(service.database)
        assert [row.version for row in rows[:24]] == met
        assert all(row.version == row.output_tokens for row in rows[:32])
