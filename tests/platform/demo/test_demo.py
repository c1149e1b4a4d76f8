"""`loraplex demo` as a user runs it: real server, real training, real clients; and it leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from loraplex.platform.demo.adapters import RECIPES
from loraplex.platform.demo.server import choose_port
from support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.e2e
DEMO = [sys.executable, "-m", "loraplex", "demo", "--device", "cpu"]


def demo_port() -> int:
    """A free port other than the default one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(temporary: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(temporary), "COLUMNS": "160"}


def test_the_show_succeeds_and_leaves_nothing(tmp_path: Path) -> None:
    port = demo_port()
    done = subprocess.run(
        [*DEMO, "--exit", "--port", str(port)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(recipe.name in done.stdout for recipe in RECIPES)
    assert f"up to {len(RECIPES)} adapters" in done.stdout
    assert "globex asks for reverse, plural, spell of another tenant: 404" in done.stdout
    assert "curl -s" in done.stdout
    assert "sign in as demo@example.com with " in done.stdout
    assert choose_port(port) == port
    assert list(tmp_path.glob("loraplex-demo-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_demo_and_server(number: signal.Signals, tmp_path: Path) -> None:
    port = demo_port()
    demo = subprocess.Popen(
        [*DEMO, "--port", str(port)],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not _answers(port):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    finally:
        demo.kill()
    assert demo.returncode == 128 + number
    assert "Traceback" not in errors
    assert choose_port(port) == port
    assert list(tmp_path.glob("loraplex-demo-*")) == []


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_SECONDS).is_success
    except httpx.TransportError:
        return False
