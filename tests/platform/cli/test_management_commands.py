"""Commands for keys, limits, prices and tenants against a real server."""

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loraplex.platform.cli.main import main
from loraplex.platform.settings import ServedModel, Settings
from support.api_server import Server, api_server
from support.services import OPERATOR


@pytest.fixture(scope="module")
def server(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("server"), models=(ServedModel(base_dir, "org/tiny:1b"),)
    )
    with api_server(settings) as server:
        yield server


def run(server: Server, words: str) -> Result:
    environment = {"LORAPLEX_URL": server.url, "LORAPLEX_API_KEY": OPERATOR}
    return CliRunner().invoke(main, words.split(), env=environment)


def answer(server: Server, words: str) -> dict[str, object]:
    """What a command prints as JSON."""
    result = run(server, f"{words} --json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert isinstance(shown, dict)
    return shown


def test_keys_that_end_and_keys_that_follow(server: Server) -> None:
    run(server, "tenant create acme")
    words = "key create acme --scope adapters --adapter b --adapter a --expires 90d"
    made = answer(server, words)
    assert made["scopes"] == ["adapters:read", "adapters:write", "usage"]
    assert made["adapters"] == ["a", "b"]
    left = datetime.fromisoformat(str(made["expires_at"])) - datetime.now(UTC)
    assert timedelta(days=89) < left < timedelta(days=90)
    made = answer(server, "key create acme --expires 2099-01-01T00:00:00+01:00")
    assert made["expires_at"] == "2098-12-31T23:00:00Z"
    rotated = run(server, f"key rotate acme {made['id']} --overlap 12h")
    assert rotated.exit_code == 0
    assert rotated.stdout.startswith("lpx_live_")
    listed = run(server, "key list acme").stdout
    assert rotated.stdout.split("_")[2] in listed
    assert rotated.stdout.strip() not in listed
    for wrong in ("--expires tomorrow", "--expires 2099-01-01T00:00:00", "--expires 999999999d"):
        refused = run(server, f"key create acme {wrong}")
        assert (refused.exit_code, "is not a moment" in refused.output) == (2, True), wrong
    refused = run(server, f"key rotate acme {made['id']} --overlap 1")
    assert (refused.exit_code, "is not a period" in refused.output) == (2, True)
    refused = run(server, "key create acme --scope admin --scope inference")
    assert (refused.exit_code, "two keys" in refused.output) == (1, True)


def test_limits(server: Server) -> None:
    run(server, "tenant create globex")
    words = "limit set globex --requests-per-minute 60 --cost-per-month 12.50"
    shown = answer(server, words)
    assert (shown["requests_per_minute"], shown["cost_per_month"]) == (60, 12.5)
    table = run(server, "limit show globex").stdout
    assert "12.5" in table
    assert "no limit" in table
    key = answer(server, "key create globex")["id"]
    shown = answer(server, f"limit set globex --key {key} --max-concurrent 2")
    assert (shown["subject"], shown["max_concurrent"]) == ("key", 2)
    assert run(server, f"limit clear globex --key {key}").exit_code == 0
    assert answer(server, f"limit show globex --key {key}")["max_concurrent"] is None
    assert "no adapter 'a'" in run(server, "limit show globex --adapter a").output
    for wrong in ("limit set globex", "limit show globex --key k --adapter a"):
        assert run(server, wrong).exit_code == 2, wrong


def test_prices(server: Server) -> None:
    shown = answer(server, "price set org/tiny:1b --input 0.10 --output 0.4 --cached-input 0.02")
    assert (shown["base"], shown["cached_input"], shown["is_set"]) == ("org/tiny:1b", 0.02, True)
    assert "0.02" in run(server, "price list").stdout
    assert run(server, "price set org/tiny:1b --input 1 --output 1 --adapter a").exit_code == 2
    refused = run(server, "price set org/tiny:1b --input 1 --output 1 --adapter a --tenant acme")
    assert (refused.exit_code, "no adapter 'a'" in refused.output) == (1, True)


def test_a_tenants_terms_and_its_end(server: Server) -> None:
    run(server, "tenant create initech")
    words = "tenant set initech --storage-limit 5GiB --ledger-days 30"
    shown = answer(server, words)
    assert (shown["storage_limit"], shown["ledger_days"]) == (5 * 2**30, 30)
    shown = answer(server, "tenant set initech --storage-limit none --ledger-days 0")
    assert (shown["storage_limit"], shown["ledger_days"]) == (None, None)
    assert run(server, "tenant set initech --storage-limit much").exit_code == 2
    assert "Deleted initech" in run(server, "tenant delete initech").stdout
    assert run(server, "key list initech").exit_code == 1
