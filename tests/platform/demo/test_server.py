"""The demo's child server: which port it takes, what it inherits, and what is said when it dies."""

import socket
import time
from pathlib import Path

import pytest

from loraplex.platform.demo.server import DemoError, DemoServer, child_environment, choose_port


def test_a_wanted_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=f"Port {port} is in use"):
            choose_port(port)


def test_without_a_wish_there_is_always_a_port() -> None:
    port = choose_port(None)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_a_server_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    server = DemoServer(tmp_path, choose_port(None), "no-such-device")
    deadline = time.monotonic() + 200
    words = ""
    while not words and time.monotonic() < deadline:
        time.sleep(0.1)
        try:
            server.check_alive()
        except DemoError as error:
            words = str(error)
    server.stop()
    assert words.startswith("The server ended with exit code 2; it said:")
    assert "no-such-device" in words


def test_a_kept_directory_keeps_its_operator_key(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        server = DemoServer(tmp_path, choose_port(None), "no-such-device")
        keys.append(server.operator_key)
        server.stop()
    assert keys[0] == keys[1]
    assert (tmp_path / "operator.key").stat().st_mode & 0o777 == 0o600


def test_settings_of_a_real_service_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAPLEX_DATABASE_URL", "postgresql://production/loraplex")
    monkeypatch.setenv("HOME", "/somewhere")
    environment = child_environment("a key")
    assert environment["HOME"] == "/somewhere"
    assert [name for name in environment if name.startswith("LORAPLEX_")] == [
        "LORAPLEX_BOOTSTRAP_KEY"
    ]
