"""Owns what every child of the `serve` process does at its start: take its launch order, report, and never outlive
its parent."""

import os
import signal
import sys
import threading
import time
from enum import StrEnum
from typing import TypeVar

import msgspec

# After the parent's death a child has this long to end by itself.
GRACE_SECONDS = 5.0


class ModelEndpoint(msgspec.Struct, frozen=True):
    """A base model, its local directory, and the socket of the engine that runs it."""

    name: str
    directory: str
    endpoint: str


class EngineLaunch(msgspec.Struct, frozen=True):
    """What an engine process needs to know. `settings` is `Settings.to_json`."""

    settings: str
    model: ModelEndpoint
    report_fd: int


class ApiLaunch(msgspec.Struct, frozen=True):
    """What an API worker needs to know; `socket_fd` listens already."""

    settings: str
    models: list[ModelEndpoint]
    socket_fd: int
    report_fd: int


class LoaderLaunch(msgspec.Struct, frozen=True):
    """What a loader process needs to know.

    Attributes:
        settings: `Settings.to_json`.
        directory: of the base model.
        dtype: the model's, as torch names it without its module.
        memory_fd: the shared memory file, for `capacity` bytes of adapters.
        held: ranges (start, bytes) of it the engine still reads; see `adapters.cache.AdapterCache.occupy`.
        successor: an earlier loader of this engine has died.
        channel_fd: the socket to the engine process.
    """

    settings: str
    directory: str
    dtype: str
    memory_fd: int
    capacity: int
    held: list[tuple[int, int]] = []
    successor: bool = False
    channel_fd: int = -1


class ReportKind(StrEnum):
    READY = "ready"
    FAILED = "failed"  # the message says why starting again would not help


class Report(msgspec.Struct, frozen=True):
    """One line from a child to its parent."""

    kind: ReportKind
    message: str = ""


Launch = TypeVar("Launch", EngineLaunch, ApiLaunch, LoaderLaunch)


def read_launch(kind: type[Launch]) -> Launch:
    """The launch order: one line of JSON on standard input. It may hold secrets, so it is in neither the arguments nor
    the environment, which other users could read. From here on the end of standard input means that the parent is gone.
    """
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    return msgspec.json.decode(line, type=kind)


def report(fd: int, kind: ReportKind, message: str = "") -> None:
    """Tell the parent."""
    os.write(fd, msgspec.json.encode(Report(kind, message)) + b"\n")


def _end_with_parent() -> None:
    # Not through `sys.stdin`, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
