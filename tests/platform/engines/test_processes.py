"""What processes may import, and how a child is watched."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loraplex.platform.engines.child import Child, ChildSpec
from loraplex.platform.engines.process import ApiLaunch

# Reports, then does what its settings say.
CHILD = """
import os, signal, sys, time
from loraplex.platform.engines.process import ApiLaunch, ReportKind, read_launch, report
launch = read_launch(ApiLaunch)
what = launch.settings
if what == "fail":
    report(launch.report_fd, ReportKind.FAILED, "The reason.")
    sys.exit(2)
report(launch.report_fd, ReportKind.READY)
if what == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("loraplex.platform.supervisor", {"torch", "litestar", "uvicorn", "sqlalchemy", "zmq"}),
        ("loraplex.platform.cli.serve", {"torch", "litestar", "uvicorn", "sqlalchemy"}),
        ("loraplex.platform.api_worker", {"torch", "transformers", "triton"}),
        ("loraplex.platform.engines.worker", {"litestar", "uvicorn", "loraplex.platform.app"}),
        # It is started again when it dies, and requests wait for that.
        (
            "loraplex.platform.engines.loader",
            {"litestar", "uvicorn", "transformers", "triton", "tokenizers", "zmq"},
        ),
        (
            "loraplex.platform.inference.template_process",
            {"torch", "litestar", "sqlalchemy", "zmq"},
        ),
    ],
)
def test_what_a_process_does_not_import(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({forbidden!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def child(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Child]:
    folder = tmp_path_factory.mktemp("child")
    (folder / "test_child_module.py").write_text(CHILD)

    def make(what: str) -> Child:
        def launch(fd: int) -> ApiLaunch:
            return ApiLaunch(what, [], -1, fd)

        return Child(
            ChildSpec("child", "test_child_module", launch, environment={"PYTHONPATH": str(folder)})
        )

    return make


def wait_end(child: Child, seconds: float = 120) -> int:
    deadline = time.monotonic() + seconds
    while (status := child.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return status


def wait_ready(child: Child, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not child.ready:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failure_arrives_with_its_reason(child: Callable[[str], Child]) -> None:
    failing = child("fail")
    failing.start_if_due()
    assert wait_end(failing) == 2
    assert failing.failure == "The reason."
    assert not failing.was_ready
    assert not failing.running


class Clock:
    """Stands for the module `time`: moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_pauses_between_restarts_grow_and_are_kept(
    child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("loraplex.platform.engines.child.time", clock)
    dying = child("serve")
    delays = []
    for _ in range(3):
        dying.start_if_due()
        assert dying.running
        wait_ready(dying)
        dying.send(signal.SIGKILL)
        assert wait_end(dying) == -signal.SIGKILL
        delays.append(dying.schedule_restart())
        clock.now += delays[-1] - 0.01
        dying.start_if_due()
        assert not dying.running
        clock.now += 0.02
    assert delays == [0.25, 0.5, 1.0]
    assert dying.was_ready


@pytest.mark.parametrize("what", ["serve", "ignore"])
def test_a_child_ends_when_its_parent_is_gone(
    child: Callable[[str], Child], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = child(what)
    orphan.start_if_due()
    wait_ready(orphan)
    assert orphan.pid is not None
    # What the system does when the parent dies: the pipe to the child closes.
    assert orphan._process is not None
    assert orphan._process.stdin is not None
    orphan._process.stdin.close()
    assert wait_end(orphan) in (-signal.SIGTERM, 1)


def test_the_launch_order_is_not_in_arguments_or_environment(child: Callable[[str], Child]) -> None:
    secret = child("a-secret-setting")
    secret.start_if_due()
    wait_ready(secret)
    for name in ("cmdline", "environ"):
        assert b"a-secret-setting" not in Path(f"/proc/{secret.pid}/{name}").read_bytes()
    secret.send(signal.SIGKILL)
    wait_end(secret)
