"""Every attack on admission we know is refused for its own reason, in under a second and 200 MB."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from loraplex.adapters.admission import Verdict
from loraplex.adapters.upload import UploadInspector
from support.hostile import Attack, base_modules, good_config, good_file
from support.hostile_judge import attacks

SECONDS = 1.0  # of processor time, so that a busy machine changes nothing
BYTES = 200 * 1000**2
ATTACKS = attacks()


@pytest.fixture(scope="module")
def verdicts() -> Generator["subprocess.Popen[str]"]:
    """The process that judges; made once, forked for each attack."""
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "support.hostile_judge"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.communicate(timeout=60)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_is_refused_for_its_reason(attack: Attack, verdicts: "subprocess.Popen[str]") -> None:
    assert verdicts.stdin is not None
    assert verdicts.stdout is not None
    verdicts.stdin.write(attack.name + "\n")
    verdicts.stdin.flush()
    verdict = json.loads(verdicts.stdout.readline())
    assert verdict["field"] == attack.field, verdict["message"]
    assert attack.says in verdict["message"]
    assert verdict["message"].isprintable()
    assert verdict["message"].isascii()
    assert len(verdict["message"]) < 1000
    assert verdict["seconds"] < SECONDS
    assert verdict["bytes"] < BYTES


def test_what_they_spoil_is_accepted() -> None:
    inspector = UploadInspector(good_config(), base_modules())
    inspector.feed(good_file())
    assert inspector.finish().verdict is Verdict.ACCEPTED


def test_nothing_a_config_names_is_imported_or_opened() -> None:
    before = set(sys.modules)
    harmless = good_config(
        auto_mapping={"parent_library": "antigravity", "base_model_class": "x"},
        base_model_name_or_path="/etc/passwd",
        revision="../../etc",
        peft_version="__import__('os')",
    )
    inspector = UploadInspector(harmless, base_modules(), base_model="tiny")
    inspector.feed(good_file())
    assert inspector.finish().verdict is Verdict.ACCEPTED
    assert "antigravity" not in set(sys.modules) - before
