"""What the documents promise: they name everything a user can meet, and nothing that does not exist."""

import dataclasses
import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from litestar import Litestar

from loraplex.adapters import peft_fields
from loraplex.adapters.admission import Verdict
from loraplex.adapters.cache import CacheStats
from loraplex.adapters.peft_config import PeftConfig
from loraplex.engine.engine import EngineStats
from loraplex.platform.app import create_app
from loraplex.platform.auth.principal import Scope
from loraplex.platform.catalog.multipart import TEXT_PARTS
from loraplex.platform.catalog.schemas import AliasSet, UploadCreate
from loraplex.platform.cli.main import main
from loraplex.platform.dashboard import PAGES
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.inference.checks import check_chat, check_completion
from loraplex.platform.inference.params import chat_params, completion_params
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, StreamOptions
from loraplex.platform.limits.schemas import LimitSet, PriceSet
from loraplex.platform.messages.schemas import CountRequest, MessagesRequest
from loraplex.platform.responses.schemas import ResponseRequest, TokensRequest
from loraplex.platform.settings import Settings
from loraplex.platform.tenants.key_schemas import (
    KeyChange,
    KeyCreate,
    KeyRotate,
    OperatorKeyCreate,
)
from loraplex.platform.tenants.schemas import TenantChange, TenantCreate

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
ALL = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
API = (ROOT / "docs" / "api.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ADAPTERS = (ROOT / "docs" / "adapters.md").read_text()
EVERYTHING = "\n".join(file.read_text() for file in ALL)
_TENANT_BASE = "/t/{tenant}"
OTHERS = {"/schema/{path}", *(re.sub(r":\w+\}", "}", page) for page in PAGES[1:])}
_METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def quoted(text: str) -> set[str]:
    """Everything between single backticks outside code blocks."""
    return set(re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)))


def fences(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return [body for kind, body in _FENCE.findall(text) if kind == language]


def joined(text: str) -> Iterator[str]:
    """The lines of every shell block, continued lines as one, without prompt and comment."""
    for block in fences(text, ""):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ")


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, f"{path} {name}")


COMMANDS = dict(commands(main, "loraplex"))


def options(command: click.Command) -> set[str]:
    """Flags of a command that its help shows."""
    return {
        flag
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for flag in param.opts
        if flag.startswith("--")
    }


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "loraplex serve"])
def test_a_command_has_a_row_with_all_its_options(name: str) -> None:
    rows = re.findall(rf"^\| `{name}\b.*", OPERATIONS, re.MULTILINE)
    assert len(rows) == 1
    assert set(re.findall(r"`(--[\w-]+)", rows[0])) == options(COMMANDS[name])
    arguments = [p.name for p in COMMANDS[name].params if isinstance(p, click.Argument) and p.name]
    assert all(argument.upper() in rows[0] for argument in arguments)


def test_serve_has_a_row_per_option_with_its_variable_and_default() -> None:
    rows = dict(re.findall(r"^\| `(--[\w-]+)` \| `(LORAPLEX_\w+)` \|", OPERATIONS, re.MULTILINE))
    serve = COMMANDS["loraplex serve"]
    shown = [p for p in serve.params if isinstance(p, click.Option) and not p.hidden]
    assert rows == {param.opts[0]: param.envvar for param in shown}
    for param in shown:
        if param.show_default:
            row = next(r for r in OPERATIONS.splitlines() if r.startswith(f"| `{param.opts[0]}` "))
            assert row.split("|")[3].strip() == f"`{param.default}`"


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "platform").rglob("*.py"))
    pattern = r"\bLORAPLEX_[A-Z_]*[A-Z]\b"
    assert set(re.findall(pattern, code)) == set(re.findall(pattern, OPERATIONS))
    assert set(re.findall(pattern, EVERYTHING)) <= set(re.findall(pattern, code))


def test_examples_call_commands_and_options_that_exist() -> None:
    seen = 0
    for line in (line for file in ALL for line in joined(file.read_text())):
        words = shlex.split(line, comments=True) if "loraplex " in line else []
        while words and "=" in words[0]:  # variables in front
            words.pop(0)
        if not words or words[0] != "loraplex":
            continue
        name = next((n for n in COMMANDS if " ".join(words).startswith(f"{n} ")), None)
        assert name is not None, line
        assert {word for word in words if word.startswith("--")} <= options(COMMANDS[name]), line
        seen += 1
    assert seen >= 8


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("docs")), EnginePool([]))


def routes(app: Litestar) -> set[str]:
    """Every `METHOD /path` of the app, without those Litestar adds for a tree of schema pages, and of the dashboard's
    pages only the first."""
    found = set()
    for route in app.routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        if path not in OTHERS:
            found |= {
                f"{method} {path}" for method in getattr(route, "methods", ()) if method in _METHODS
            }
    return found


def test_every_route_is_documented_and_every_documented_one_exists(app: Litestar) -> None:
    found = routes(app)
    plain = {route for route in found if _TENANT_BASE not in route}
    # Each OpenAI route has a twin below the tenant's own base URL, and the page says so once.
    twins = {route.replace(" ", f" {_TENANT_BASE}", 1) for route in plain if " /v1/" in route}
    assert found - plain == twins
    assert f"`{_TENANT_BASE}/v1`" in API
    pattern = re.compile(r"`((?:GET|POST|PUT|DELETE|PATCH) /[^`\s]*)`")
    documented = {re.sub(r"\?.*", "", route) for route in pattern.findall(API)}
    assert documented == plain


@pytest.mark.parametrize(
    "body",
    [
        CompletionRequest,
        ChatRequest,
        StreamOptions,
        ResponseRequest,
        TokensRequest,
        MessagesRequest,
        CountRequest,
        TenantCreate,
        TenantChange,
        KeyCreate,
        KeyChange,
        KeyRotate,
        OperatorKeyCreate,
        LimitSet,
        PriceSet,
        UploadCreate,
        AliasSet,
    ],
)
def test_every_field_of_a_body_is_documented(body: type[msgspec.Struct]) -> None:
    words = {part for text in quoted(API) for part in re.split(r"[.\[\]]+", text)}
    assert set(body.__struct_fields__) - words == set()


def test_every_part_of_a_push_and_every_scope_is_documented() -> None:
    assert {*TEXT_PARTS, "weights", *Scope} <= quoted(API)
    assert set(Scope) <= quoted(OPERATIONS)


def test_json_in_the_documents_is_json_and_curl_bodies_are_accepted() -> None:
    for text in fences(EVERYTHING, "json"):
        json.loads(text)
    bodies = 0
    for line in joined(EVERYTHING):
        words = shlex.split(line, comments=True) if line.startswith("curl ") else []
        data = next((b for a, b in itertools.pairwise(words) if a == "-d"), "@")
        if data.startswith("@"):
            continue
        url = next(word for word in words if word.startswith("http"))
        bodies += 1
        if url.endswith("/chat/completions"):
            chat = msgspec.json.decode(data, type=ChatRequest)
            check_chat(chat)
            chat_params(chat)
        elif url.endswith("/completions"):
            completion = msgspec.json.decode(data, type=CompletionRequest)
            check_completion(completion)
            completion_params(completion)
        else:
            json.loads(data)
    assert bodies >= 5


def error_codes() -> set[str]:
    """Every literal the platform gives as an error's code."""
    code = "\n".join(file.read_text() for file in (ROOT / "platform").rglob("*.py"))
    return set(re.findall(r"\b(?:default_code(?:: ClassVar\[str\])? = |code=)\"(\w+)\"", code))


def test_every_error_code_is_documented_and_every_documented_one_exists() -> None:
    codes = error_codes()
    assert {"internal_error", "model_not_found", "adapter_rejected", "generation_failed"} <= codes
    rows = re.findall(r"^\| \d{3} \| ([^|]+) \|", API, re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == codes


def test_every_number_of_an_engine_is_documented() -> None:
    stats = {field.name for field in dataclasses.fields(EngineStats)}
    stats |= {f"cache_{field.name}" for field in dataclasses.fields(CacheStats)}
    names = {name.removeprefix("loraplex_engine").removeprefix("_") for name in quoted(OPERATIONS)}
    assert stats - names == set()


def test_every_peft_field_and_verdict_is_documented() -> None:
    known = peft_fields.READ | peft_fields.WITHOUT_EFFECT | peft_fields.UNSUPPORTED.keys()
    known |= {"auto_mapping", "runtime_config"}
    known |= peft_fields.AUTO_MAPPING_KEYS | peft_fields.RUNTIME_CONFIG_KEYS
    known |= peft_fields.PLAIN_INITS | peft_fields.DOUBTFUL_INITS
    known |= {*peft_fields.BASE_CHANGING_INITS, *Verdict}
    assert known - quoted(ADAPTERS) == set()


def test_harmless_values_in_the_document_are_harmless() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (`[^`|]+`)? ?\| [^|]+ \| [^|]+ \|$", ADAPTERS, re.MULTILINE)
    documented = {
        field: value for fields, value in rows for field in re.findall(r"`(\w+)`", fields)
    }
    assert documented.keys() == peft_fields.UNSUPPORTED.keys()
    for field, value in documented.items():
        config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, field: value.strip("`") or None}
        PeftConfig.parse(json.dumps(config).encode())
        assert {value.strip("`")} - {""} == set(peft_fields.UNSUPPORTED[field].values)


def test_architecture_is_short_and_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert len(text.splitlines()) <= 80
    folders = (ROOT, ROOT / "platform", ROOT / "engine")
    named = set(re.findall(r"[\w/]*\w\.py\b", text))
    named |= {word for word in quoted(text) if re.fullmatch(r"[\w-]+(/[\w.-]+)+/?", word)}
    assert len(named) >= 15
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert missing == []


def test_links_lead_to_files() -> None:
    for file in ALL:
        prose = re.sub(r"`[^`\n]+`", "", file.read_text())
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join([*quoted(EVERYTHING), *fences(EVERYTHING, "")])
    used = set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE))
    assert {"demo", "test"} <= used <= targets


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    # In pieces, so that this file is clean itself.
    folders = r"/(?:wo" + "rk|ro" + "ot|ho" + "me|Us" + r"ers|tmp/\w)/"
    hosts = (
        "py" + "pi",
        "python" + "hosted",
        "npm" + "js",
        "yarn" + "pkg",
        r"download\.py" + "torch",
    )
    machine = re.compile((r"(?<![\w.])" + folders).encode())
    registry = re.compile(rf"\b(?:{'|'.join(hosts)})\.(?:org|com|io)\b".encode())
    found = [
        f"{name.decode()}: {match[0].decode()}"
        for name in listing.stdout.split(b"\0")
        if name and (ROOT / name.decode()).is_file()
        for pattern in (machine, registry)
        for match in pattern.finditer((ROOT / name.decode()).read_bytes())
    ]
    assert found == []
