"""Owns pushing a PEFT directory: hash, announce, send in parts that survive broken connections, complete."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
from rich.progress import Progress, TaskID

from loraplex.platform.cli.client import ApiClient, Json, api_path
from loraplex.platform.cli.progress import transfer_progress

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PIECE = 1024 * 1024
PART = 64 * PIECE  # one request; a broken connection costs at most this much
ATTEMPTS = 5  # in a row without progress


@dataclass(frozen=True, slots=True)
class Push:
    """What is pushed, and as what."""

    folder: Path
    name: str
    query: dict[str, str]
    alias: str | None = None
    base: str | None = None
    chat_template: str | None = None
    parent: int | None = None
    defaults: object = None
    golden: object = None


def push_adapter(api: ApiClient, push: Push) -> Json:
    """Push an adapter; the new version as the server describes it.

    Raises:
        click.ClickException: a file is missing, or the server refuses.
    """
    config, weights = push.folder / CONFIG, push.folder / WEIGHTS
    for file in (config, weights):
        if not file.is_file():
            raise click.ClickException(f"{file} is missing; push a directory that PEFT saved.")
    size = weights.stat().st_size
    with transfer_progress() as progress:
        digest = _digest(weights, progress, progress.add_task("Hashing", total=size))
        announcement = {
            "name": push.name,
            "size": size,
            "sha256": digest,
            "config": config.read_text(),
            "alias": push.alias,
            "base": push.base,
            "chat_template": push.chat_template,
            "parent": push.parent,
            "defaults": push.defaults,
            "golden": push.golden,
        }
        upload = api.call("POST", api_path("uploads"), body=announcement, query=push.query)
        path = api_path("uploads", str(upload["id"]))
        _send(api, path, push, size, progress, progress.add_task("Sending", total=size))
        progress.add_task("Checking", total=None)
        return api.call("POST", f"{path}/complete", query=push.query)


def _digest(weights: Path, progress: Progress, task: TaskID) -> str:
    digest = hashlib.sha256()
    with weights.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            progress.advance(task, len(piece))
    return digest.hexdigest()


def _send(
    api: ApiClient, path: str, push: Push, size: int, progress: Progress, task: TaskID
) -> None:
    received, failures = 0, 0
    while received < size:
        last = min(received + PART, size)
        headers = {
            "content-range": f"bytes {received}-{last - 1}/{size}",
            "content-length": str(last - received),
        }
        content = _part(push.folder / WEIGHTS, received, last, progress, task)
        try:
            answer = api.put_bytes(path, content, headers, push.query)
            failures = 0
        except httpx.TransportError as error:
            failures += 1
            if failures == ATTEMPTS:
                raise click.ClickException(
                    f"The connection broke {ATTEMPTS} times in a row ({error}); push again later."
                ) from error
            time.sleep(failures)
            answer = api.call("GET", path, query=push.query)
        stored = answer["received"]
        assert isinstance(stored, int)
        received = stored
        progress.update(task, completed=received)


def _part(
    weights: Path, first: int, last: int, progress: Progress, task: TaskID
) -> Iterator[bytes]:
    with weights.open("rb") as file:
        file.seek(first)
        while first < last and (piece := file.read(min(PIECE, last - first))):
            first += len(piece)
            yield piece
            progress.update(task, completed=first)
