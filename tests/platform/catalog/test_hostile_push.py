"""Attacks on admission through the push route: the same reasons, and nothing of them stays. The whole corpus is judged
in tests/adapters."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loraplex.platform.settings import ServedModel, Settings
from support.hostile import BASE, good_config, good_file
from support.hostile_judge import attacks
from support.services import Api, bearer

# Every twentieth, and those that hurt most.
ATTACKS = attacks()
CHOSEN = [
    *list(ATTACKS)[::20],
    "config: rank_pattern with 64 slow ones",
    "config: 99 MB of spaces",
    "weights: 800,000 empty tensors",
    "weights: a gzip bomb",
    "weights: a header one byte at a time",
]


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """The base model under attack; nothing loads its weights."""

    folder = tmp_path / "attacked"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE))
    return folder


@pytest.fixture
def settings(settings: Settings, base_dir: Path) -> Settings:
    """It is served."""
    return replace(settings, models=(ServedModel(base_dir, "tiny"),))


async def test_attacks_are_refused_and_leave_nothing(api: Api) -> None:
    key = await api.tenant("acme")
    for name in CHOSEN:
        attack = ATTACKS[name]
        if attack.size is not None and attack.size > 128 * 1024**2:
            continue
        files = {"config": attack.config, "weights": b"".join(attack.weights())}
        answer = await api.push(key, files)
        body = answer.json()
        if len(attack.config) > 64 * 1024:
            assert answer.status_code == 413, name
        elif not attack.config or attack.field == "config":
            assert answer.status_code in (400, 422), name
        else:
            assert (answer.status_code, body["code"]) == (422, "adapter_rejected"), name
            assert body["param"] == attack.field, name
            assert attack.says in body["detail"]
            assert body["report"]["verdict"] == "rejected"
        assert "Traceback" not in answer.text
    assert await api.stored() == (0, 0, 0)
    assert api.spooled() == []
    good = {"config": good_config(), "weights": good_file()}
    assert (await api.push(key, good)).status_code == 201


async def test_templates_that_are_bombs(api: Api) -> None:
    """Refused when pushed, or harmless until they are rendered in the process made for that."""
    key, good = await api.tenant("acme"), {"config": good_config(), "weights": good_file()}
    for template, status in (
        ("{% for x in range(10**9) %}{{ x }}{% endfor %}", 201),
        ("{{ 'a' * 10**12 }}", 201),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", 201),
        ("{% include '/etc/passwd' %}", 201),
        ("{{ 10**10**10 }}", 201),
        ("{% if %}", 400),
        ("{{ messages", 400),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", 201),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", 422),
        ("{% if a %}" * 6_000, 422),
        ("{{ x" + "|e" * 20_000 + " }}", None),
        ("{# " + "#" * 60_000, 400),
        ("x" * 65_537, 413),
        ("a\0b", 400),
    ):
        answer = await api.push(key, good, chat_template=template)
        assert answer.status_code < 500, template[:50]
        if status is not None:
            assert answer.status_code == status, (template[:50], answer.text)


async def test_files_of_the_wrong_base(api: Api) -> None:
    key, good = await api.tenant("acme"), {"config": good_config(), "weights": good_file()}
    answer = await api.push(key, good, base="another")
    assert (answer.status_code, answer.json()["param"]) == (400, "base")
    listed = await api.client.get("/api/v1/adapters", headers=bearer(key))
    assert listed.json()["data"] == []
