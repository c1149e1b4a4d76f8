"""Client commands against a real server: what they do, print and return."""

import hashlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from loraplex.platform.cli.main import main
from loraplex.platform.settings import ServedModel, Settings
from support.api_server import Server, api_server
from support.services import OPERATOR, adapter_files, bearer


@dataclass(frozen=True, slots=True)
class Run:
    """Runs commands against a server with a key."""

    url: str
    key: str

    def __call__(self, *words: str | Path) -> Result:
        environment = {"LORAPLEX_URL": self.url, "LORAPLEX_API_KEY": self.key}
        return CliRunner().invoke(main, [str(word) for word in words], env=environment)


@pytest.fixture(scope="module")
def server(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    data_dir = tmp_path_factory.mktemp("server")
    with api_server(Settings(data_dir=data_dir, models=(ServedModel(base_dir, "tiny"),))) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Run:
    """Run a command as operator."""
    return Run(server.url, OPERATOR)


@pytest.fixture
def tenant(server: Server, operator: Run, request: pytest.FixtureRequest) -> Run:
    """Run a command as a tenant of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    assert operator("tenant", "create", name).exit_code == 0
    made = operator("key", "create", name)
    return Run(server.url, made.stdout.strip())


def test_tenants_and_keys(server: Server, operator: Run) -> None:
    assert "Made the tenant acme" in operator("tenant", "create", "acme").stdout
    made = operator("key", "create", "acme", "--name", "ci", "--scope", "inference")
    token = made.stdout.strip()
    assert token.startswith("lpx_live_")
    assert "cannot be shown again" in made.stderr
    listed = json.loads(operator("key", "list", "acme", "--json").stdout)
    assert [(k["name"], k["scopes"]) for k in listed] == [("ci", ["inference"])]
    assert "acme" in operator("tenant", "list").stdout
    assert "inference" in operator("key", "list", "acme").stdout
    assert httpx.get(f"{server.url}/v1/models", headers=bearer(token)).status_code == 200
    assert operator("key", "revoke", "acme", listed[0]["id"]).exit_code == 0
    assert httpx.get(f"{server.url}/v1/models", headers=bearer(token)).status_code == 401


def test_shares_and_pins(server: Server, operator: Run, tenant: Run, adapter_dir: Path) -> None:
    assert operator("tenant", "create", "heavy").exit_code == 0
    changed = operator("tenant", "set", "heavy", "--weight", "2.5", "--max-running", "8")
    assert changed.stdout == "heavy: weight 2.5, most running: 8.\n"
    changed = operator("tenant", "set", "heavy", "--max-running", "0")
    assert changed.stdout == "heavy: weight 2.5, most running: no limit.\n"
    assert "2.5" in operator("tenant", "list").stdout
    assert tenant("adapter", "push", adapter_dir, "--name", "a").exit_code == 0
    changed = tenant("adapter", "set", "a", "--max-running", "2")
    assert changed.stdout == "a: not pinned, most running: 2.\n"
    refused = tenant("adapter", "set", "a", "--pin")
    assert refused.exit_code != 0
    assert "only an operator pins" in refused.output
    owner = "test-shares-and-pins"
    changed = operator("adapter", "set", "a", "--pin", "--tenant", owner, "--json")
    assert json.loads(changed.stdout)["pinned"] is True
    changed = operator("adapter", "set", "a", "--no-pin", "--tenant", owner)
    assert changed.stdout == "a: not pinned, most running: 2.\n"


def test_the_life_of_an_adapter(
    tenant: Run, adapter_dir: Path, other_adapter_dir: Path, tmp_path: Path
) -> None:
    first = tenant("adapter", "push", adapter_dir, "--name", "a", "--alias", "prod")
    assert first.exit_code == 0, first.output
    assert first.stdout == "a@1 is ready (rank 8), named a@prod.\n"
    defaults, golden = tmp_path / "defaults.json", tmp_path / "golden.json"
    defaults.write_text('{"temperature": 0}')
    golden.write_text('[{"prompt": [1], "expected": "x"}]')
    extras = ("--parent", "1", "--defaults", defaults, "--golden", golden)
    pushed = tenant("adapter", "push", other_adapter_dir, "--name", "a", *extras, "--json")
    version = json.loads(pushed.stdout)
    assert (version["version"], version["parent"]) == (2, 1)
    assert version["defaults"] == {"temperature": 0}
    assert version["golden"][0]["expected"] == "x"
    assert tenant("adapter", "promote", "a").stdout == "a@prod names version 2.\n"
    assert tenant("adapter", "rollback", "a").stdout == "a@prod names version 1.\n"
    assert tenant("adapter", "promote", "a@2", "--alias", "canary").exit_code == 0
    shown = tenant("adapter", "show", "a").stdout
    assert "canary → 2, prod → 1" in shown
    assert "prod → 1" in tenant("adapter", "list").stdout
    assert json.loads(tenant("adapter", "show", "a", "--json").stdout)["name"] == "a"
    split = tenant("adapter", "promote", "a", "--split", "1=90, 2=10")
    assert split.stdout == "a@prod names versions 1 (0.9), 2 (0.1).\n"
    assert "prod → 1 (0.9), 2 (0.1)" in tenant("adapter", "list").stdout
    assert tenant("adapter", "promote", "a", "2").stdout == "a@prod names version 2.\n"
    assert "versions 1 (0.9)" in tenant("adapter", "rollback", "a").stdout
    refused = tenant("adapter", "delete", "a@1", "--yes")
    assert refused.exit_code == 1
    assert "The alias 'prod' names a@1" in refused.stderr
    assert tenant("adapter", "delete", "a").stdout == "Deleted a.\n"
    assert json.loads(tenant("adapter", "list", "--json").stdout) == []


def test_a_refused_adapter_is_one_sentence(tenant: Run, adapter_dir: Path, tmp_path: Path) -> None:
    files = adapter_files(adapter_dir)
    config = {**json.loads(files["config"]), "use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(files["weights"])
    result = tenant("adapter", "push", tmp_path, "--name", "a")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: use_dora asks for DoRA")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("adapter", "show", "none"), "There is no adapter 'none'."),
        (("adapter", "promote", "none"), "There is no adapter 'none'."),
        (("adapter", "rollback", "none"), "There is no adapter 'none'."),
        (("adapter", "promote", "none@1", "2"), "Name one version, or a split, not both."),
        (("adapter", "promote", "none", "--split", "1"), "write VERSION=WEIGHT,VERSION=WEIGHT."),
        (("adapter", "delete", "none@x"), "write NAME or NAME@N"),
        (("tenant", "list"), "Only operators may do this."),
        (("key", "create", "other"), "There is no tenant 'other'."),
    ],
)
def test_refusals_are_one_sentence(tenant: Run, words: tuple[str, ...], sentence: str) -> None:
    result = tenant(*words)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_directory_without_an_adapter(tenant: Run, tmp_path: Path) -> None:
    result = tenant("adapter", "push", tmp_path, "--name", "a")
    assert result.exit_code == 1
    assert "adapter_config.json is missing" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("key", "list", "acme/../{other}"),
        ("key", "list", "{other}/keys?x="),
        ("key", "revoke", "..", "x"),
        ("adapter", "show", "../tenants"),
        ("adapter", "show", ""),
        ("adapter", "show", "."),
        ("adapter", "show", "none?x=1"),
        ("adapter", "show", "none#x"),
        ("adapter", "show", "%2e%2e"),
        ("adapter", "delete", "none/versions/1"),
        ("adapter", "promote", "none@1", "--alias", "../../none"),
    ],
)
def test_names_stay_names(server: Server, operator: Run, words: tuple[str, ...]) -> None:
    # An existing tenant that the name must not lead to.
    operator("tenant", "create", "globex")
    tail = ("--tenant", "globex") if words[0] == "adapter" else ()
    result = operator(*(word.format(other="globex") for word in words), *tail)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "cannot be a name" in result.stderr or "There is no" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_operator_is_told_of_the_option(operator: Run) -> None:
    result = operator("adapter", "list")
    assert "add --tenant NAME" in result.stderr
    assert "?" not in result.stderr


COMMANDS = (("tenant", "list"), ("bench", "serve", "--model", "m", "--requests", "1"))


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://[", "http://[::1", "http://a..b", "http://h:99999", "nonsense"],
)
def test_no_server_no_url(words: tuple[str, ...], url: str) -> None:
    result = Run(url, "x")(*words)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert url == "http://127.0.0.1:1" or "LORAPLEX_URL" in result.stderr


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("key", ["", "hush\n", "hush é", "hush\x7f", " hush"])
def test_no_key(words: tuple[str, ...], key: str) -> None:
    result = Run("http://127.0.0.1:1", key)(*words)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert "LORAPLEX_API_KEY" in result.stderr
    assert "hush" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_a_wrong_key(server: Server) -> None:
    result = Run(server.url, "wrong")("tenant", "list")
    assert (result.exit_code, "This API key is not valid" in result.stderr) == (1, True)


def test_upgrading_a_database(tmp_path: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(main, ["db", "upgrade", "--data-dir", str(tmp_path / "d")])
        assert result.exit_code == 0, result.output
    assert sorted(f.name for f in (tmp_path / "d").iterdir()) == ["loraplex.db", "weights.db"]
    wrong = CliRunner().invoke(main, ["db", "upgrade", "--database-url", "mysql://h/d"])
    assert (wrong.exit_code, "--database-url" in wrong.stderr) == (1, True)


@pytest.mark.parametrize("url", ["", "postgresql://u:p@127.0.0.1:1/d", "mysql://h/d"])
@pytest.mark.parametrize("words", [("db", "upgrade"), ("serve", "--port", "0", "--model")])
def test_an_unusable_database_is_one_sentence(
    base_dir: Path, tmp_path: Path, words: tuple[str, ...], url: str
) -> None:
    (tmp_path / "loraplex.db").write_bytes(b"no database" * 1000)
    words = (*words, str(base_dir)) if words[0] == "serve" else words
    result = subprocess.run(
        [sys.executable, "-m", "loraplex", *words, "--data-dir", tmp_path, "--database-url", url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    assert "--database-url" in result.stderr
    assert result.stdout == ""


def test_client_commands_start_without_the_server(tmp_path: Path) -> None:
    code = (
        "import sys, loraplex.platform.cli.main as m, loraplex.platform.cli.adapters;"
        "print([n for n in ('torch', 'litestar', 'sqlalchemy', 'transformers') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_broken_connection_can_be_resumed(server: Server, tenant: Run, adapter_dir: Path) -> None:
    # Over a plain socket, so that it breaks in the middle of a body.
    key, files = tenant.key, adapter_files(adapter_dir)
    weights = files["weights"]
    announcement = {
        "name": "a",
        "size": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "config": files["config"].decode(),
    }
    with httpx.Client(base_url=server.url, headers=bearer(key)) as client:
        upload = client.post("/api/v1/uploads", json=announcement).json()["id"]
        path = f"/api/v1/uploads/{upload}"
        port = int(server.url.rsplit(":", 1)[1])
        for sent in (3000, 5000):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = (
                    f"PUT {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
                    f"content-range: bytes 0-{len(weights) - 1}/{len(weights)}\r\n"
                    f"content-length: {len(weights)}\r\n\r\n"
                )
                connection.sendall(head.encode() + weights[:sent])
        received = client.get(path).json()["received"]
        assert received in (0, 3000, 5000)
        headers = {"content-range": f"bytes {received}-{len(weights) - 1}/{len(weights)}"}
        answer = client.put(path, content=weights[received:], headers=headers)
        assert answer.status_code == 200, answer.text
        assert client.post(f"{path}/complete").status_code == 201
