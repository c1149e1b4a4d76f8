"""Fixtures: a served adapter of the demo model, what transformers + PEFT answer, and clients that run in virtual
environments of their own, since what they need does not fit together. `make clients` installs them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from loraplex.platform.demo.adapters import RECIPES, train_adapter
from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.tasks import held_out_words
from support import chat_templates
from support.demo_answers import greedy_answers
from support.serve import Serve, Tenant

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(__file__).parent / "examples"
# Imports and a few dozen short answers take seconds; a loaded machine is many times slower.
EXAMPLE_SECONDS = 240.0
# Definitions of functions, a byte a token, are longer than what the demo model was trained on.
LONG_CONTEXT = 4096

Facts = dict[str, Any]  # what an example prints
Run = Callable[[str], Facts]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It moves each letter one on."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == "cipher")
    return train_adapter(demo_model_dir(), recipe, tmp_path_factory.mktemp("cipher")).path


@pytest.fixture(scope="session")
def words() -> list[str]:
    return held_out_words(3)


@pytest.fixture(scope="session")
def answers(adapter: Path, words: list[str]) -> list[str]:
    """What transformers + PEFT answer to the words."""
    base = AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32)
    return greedy_answers(PeftModel.from_pretrained(base, adapter), words)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Of the demo model, with a longer context."""
    model = tmp_path_factory.mktemp("model")
    for file in demo_model_dir().iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    config["max_position_embeddings"] = LONG_CONTEXT
    (model / "config.json").write_text(json.dumps(config))
    data = tmp_path_factory.mktemp("data")
    with Serve(model, data, "--dtype", "float32", name="demo-base") as serve:
        yield serve


@pytest.fixture(scope="session")
def tenant(server: Serve, adapter: Path) -> Tenant:
    """One adapter under three names: as it is, with a template that knows functions, and under a name of OpenAI's."""
    acme = server.tenant("acme")
    assert acme.push("cipher", adapter).status_code == 201
    hermes = chat_templates.ALL["hermes"]
    assert acme.push("caller", adapter, chat_template=hermes).status_code == 201
    assert acme.push("text-embedding-3-small", adapter).status_code == 201
    return acme


@pytest.fixture(scope="session")
def run_example(tenant: Tenant, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `examples/ask_NAME.py` with the interpreter of the client NAME; gives what it printed."""

    def run(name: str) -> Facts:
        python = ROOT / ".venv-clients" / name / "bin" / "python"
        if not python.exists():
            wanted = os.environ.get("LORAPLEX_CLIENTS") == "required"
            (pytest.fail if wanted else pytest.skip)(f"{name} is not installed: make clients")
        home = tmp_path_factory.mktemp(name)
        done = subprocess.run(
            [python, EXAMPLES / f"ask_{name}.py", f"{tenant.url}/v1", tenant.key, *words],
            env=environment(tenant, home),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS,
        )
        assert done.returncode == 0, done.stderr[-6000:]
        facts: Facts = json.loads(done.stdout.splitlines()[-1])
        return facts

    return run


def environment(tenant: Tenant, home: Path) -> dict[str, str]:
    """Nothing of ours, an empty home, and no way out: what would leave the machine meets a proxy that is not there."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LLM_USER_PATH": str(home),
        "OPENAI_BASE_URL": f"{tenant.url}/v1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1",
    }
