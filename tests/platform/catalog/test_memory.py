"""A 300 MB adapter passes through an API process without being held in it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are not installed
import pytest

from loraplex.platform.cli.client import ApiClient
from loraplex.platform.cli.push import Push, push_adapter
from loraplex.platform.settings import ServedModel, Settings
from support.api_server import Server, api_server
from support.large_adapter import write_adapter, write_config
from support.services import OPERATOR, bearer

MB = 1000**2
LIMIT = 64 * MB


class Peak:
    """The highest resident size of a process while the block runs, above that at its start."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._start = self._process.memory_info().rss
        self.growth = 0

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.growth = max(self.growth, self._process.memory_info().rss - self._start)
            time.sleep(0.005)


def _multipart(server: Server, key: str, folder: Path) -> None:
    with (
        (folder / "adapter_config.json").open("rb") as config,
        (folder / "adapter_model.safetensors").open("rb") as weights,
    ):
        answer = httpx.post(
            f"{server.url}/api/v1/adapters",
            headers=bearer(key),
            data={"name": "one-request"},
            files={"config": config, "weights": weights},
            timeout=300,
        )
    assert answer.status_code == 201, answer.text


def _resumable(server: Server, key: str, folder: Path) -> None:
    with ApiClient(server.url, key) as api:
        push_adapter(api, Push(folder, "in-parts", {}))


@pytest.mark.e2e
@pytest.mark.parametrize("push", [_multipart, _resumable])
def test_a_300_mb_upload_grows_the_process_by_less_than_64_mb(
    tmp_path: Path, push: Callable[[Server, str, Path], None]
) -> None:
    base = write_config(tmp_path / "base")
    size = write_adapter(tmp_path / "large", rank=58)
    assert size > 300 * MB
    write_adapter(tmp_path / "small", rank=1)
    settings = Settings(data_dir=tmp_path / "data", models=(ServedModel(base, "8b"),))
    with api_server(settings) as server:
        operator = bearer(OPERATOR)
        httpx.post(f"{server.url}/api/v1/tenants", json={"name": "a"}, headers=operator)
        made = httpx.post(f"{server.url}/api/v1/tenants/a/keys", json={}, headers=operator)
        key = made.json()["key"]
        push(server, key, tmp_path / "small")  # what every first push costs
        with Peak(server.pid) as peak:
            push(server, key, tmp_path / "large")
    print(f"{push.__name__}: {size / MB:.0f} MB, process grew by {peak.growth / MB:.1f} MB")
    assert peak.growth < LIMIT
